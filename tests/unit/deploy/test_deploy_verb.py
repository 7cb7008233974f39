"""`fusebox deploy`, from the user's file to the upload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tests.unit.deploy.conftest import Fusebox
from tests.unit.deploy.fake_gateway import FUNCTION, FakeGateway, problem
from tests.unit.deploy.test_package import LINEAR

Write = Callable[[str, str], Path]


def test_a_deployment_uploads_the_artifact_and_shows_what_it_became(
    fusebox: Fusebox, gateway: FakeGateway, write: Write
) -> None:
    """Every step is named; the table stands on standard output."""
    gateway.on("PUT", "/v1/functions/f", (201, FUNCTION | {"version": 7}))
    result = fusebox("deploy", str(write("f.py", LINEAR)), "--max-batch", "4")
    assert (result.exit_code, result.exception) == (0, None)
    expected = ["f@7", "input float32 [rows, 4]", "15", "1 exported, 1 folded", "between graph and"]
    assert [text for text in expected if text not in result.stdout] == []
    assert "comparing graph and model" in result.stderr
    assert gateway.asked[0].headers["content-length"] == str(len(gateway.asked[0].body))


def test_a_deployment_as_json_is_one_line_though_the_model_prints(
    fusebox: Fusebox, gateway: FakeGateway, write: Write
) -> None:
    """What the user's code prints is not the result."""
    gateway.on("PUT", "/v1/functions/g", (201, FUNCTION | {"version": 7}))
    path = write("f.py", "print('hello')\n" + LINEAR)
    told = ("--on-success", "function:next")
    result = fusebox("deploy", str(path), "--name", "g", "--slo-ms", "50", "--json", *told)
    record = json.loads(result.stdout)
    digest = hashlib.sha256(gateway.asked[0].body).hexdigest()
    assert (record["version"], record["digest"], record["slo_ms"]) == (7, digest, 50.0)
    assert (record["on_success"], record["on_failure"]) == (["function:next"], [])
    assert "hello" in result.stderr


def test_what_is_refused_is_told_without_a_traceback(
    fusebox: Fusebox, gateway: FakeGateway, write: Write
) -> None:
    """Unless it is asked for; and nothing is uploaded."""
    path = str(write("f.py", "def load():\n    return 1 / 0\nexample_inputs = load\n"))
    result = fusebox("deploy", path)
    told = f"fusebox: {path}:2: load() failed: ZeroDivisionError: division by zero\n"
    assert result.exit_code == 1
    assert result.stderr.endswith(told)
    assert "Traceback" not in result.stderr
    assert gateway.asked == []
    assert type(fusebox("deploy", path, "--debug").exception).__name__ == "PackagingError"


def test_what_the_platform_refuses_is_told_as_it_says(
    fusebox: Fusebox, gateway: FakeGateway, write: Write
) -> None:
    """With the exit code of wrong input."""
    gateway.on("PUT", "/v1/functions/f", problem(413, "payload_too_large", "too big"))
    result = fusebox("deploy", str(write("f.py", LINEAR)))
    assert result.exit_code == 2
    assert result.stderr.endswith("fusebox: too big\n")
