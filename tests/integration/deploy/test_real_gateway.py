"""What the command line packs is what the real gateway takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from contract.function import FunctionRef
from contract.settings import Settings
from contract.store import Store
from deploy.cli import main
from gateway.app import create_app
from gateway.context import Gateway

HANDLER = """
def load():
    from torch import nn
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))

def example_inputs():
    import torch
    return {"image": torch.linspace(0, 1, 32).reshape(2, 1, 4, 4)}

def preprocess(payload):
    return {"image": payload}

def files():
    return ["words.txt"]
"""


@pytest.fixture
def url(store: Store, tmp_path: Path) -> Iterator[str]:
    """A gateway on a port of its own."""
    app = create_app(Settings(data=tmp_path / "data"), store)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    gateway: Gateway = app.extensions["gateway"]
    gateway.replies.close()


def fusebox(url: str, *args: str) -> Result:
    """Run a verb against this gateway."""
    return CliRunner().invoke(main, args, env={"FUSEBOX_URL": url})


def test_a_function_is_deployed_listed_called_and_removed(
    url: str, store: Store, tmp_path: Path
) -> None:
    """Through every verb that needs no worker."""
    project = tmp_path / "my_net"
    project.mkdir()
    (project / "handler.py").write_text(HANDLER)
    (project / "words.txt").write_text("a b c")
    deployed = fusebox(url, "deploy", str(project), "--slo-ms", "50", "--json")
    assert deployed.exit_code == 0
    made = json.loads(deployed.stdout)

    function = store.functions.get(FunctionRef("my-net"))
    folder = tmp_path / "data" / "artifacts" / function.digest
    assert made["digest"] == function.digest
    assert made["operators_exported"] - made["operators"] == 1
    assert (folder / "files" / "words.txt").read_text() == "a b c"
    assert (folder / "handler.py").read_text() == HANDLER

    listed = json.loads(fusebox(url, "ls", "--json").stdout)["functions"]
    assert [(f["name"], f["version"], f["tier"]) for f in listed] == [("my-net", 1, "disk")]
    assert "my-net@1" in fusebox(url, "describe", "my-net").stdout

    job = fusebox(url, "invoke", "my-net", "--data", "[1]", "--async").stdout.strip()
    assert json.loads(fusebox(url, "jobs", "get", job, "--json").stdout)["status"] == "queued"
    assert fusebox(url, "jobs", "wait", job, "--timeout", "0.1").exit_code == 5
    assert fusebox(url, "jobs", "cancel", job).stdout.strip() == f"{job} is cancelled"
    assert fusebox(url, "jobs", "wait", job).exit_code == 1

    top = fusebox(url, "top", "--json", "--interval", "0.1", "--count", "1")
    assert [line["name"] for line in json.loads(top.stdout)["functions"]] == ["my-net"]
    assert fusebox(url, "logs", "my-net", "--json").stdout == ""
    assert fusebox(url, "rm", "my-net@1").exit_code == 0
    assert fusebox(url, "describe", "my-net").exit_code == 3
    assert fusebox(url, "logs", "nobody").exit_code == 3
