"""The example that uses the client does what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import msgpack
import numpy as np
import pytest
from werkzeug import Response

from contract.tensors import decode_tensor, encode_tensor
from tests.unit.deploy.fake_gateway import ANSWER, Asked, FakeGateway

CALL = Path(__file__).parents[3] / "examples" / "resnet-family" / "call.py"


def test_the_family_is_called_with_arrays(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it at once, and one of it often."""

    def answer(asked: Asked) -> tuple[int, Response]:
        if asked.headers["content-type"] == "application/msgpack":
            image = decode_tensor("images", msgpack.unpackb(asked.body)["inputs"]["images"])
            assert image.shape == (1, 3, 64, 64)
        logits = encode_tensor(np.eye(1, 100, 7, dtype=np.float32))
        name = asked.path.split("/")[3]
        record = ANSWER | {"function": name, "outputs": {"logits": logits}}
        return 200, Response(msgpack.packb(record), content_type="application/msgpack")

    for number in range(1, 9):
        gateway.on("POST", f"/v1/functions/resnet-{number}/invoke", answer)
    monkeypatch.setenv("FUSEBOX_URL", gateway.url)
    runpy.run_path(str(CALL), run_name="__main__")
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [f"resnet-{n}: class 7, in a group of 2 functions" for n in range(1, 9)]
    assert last == "resnet-1: (64, 100) logits of 64 calls"
