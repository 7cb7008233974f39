"""Handler hosts: what a function's own code may do, and what it cannot do to others."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from contract.errors import (
    DeadlineExceeded,
    HandlerFailed,
    HandlerTimeout,
    InvalidInput,
    MalformedBody,
)
from contract.tensors import encode_tensor
from tests.unit.workers.conftest import Bench, call
from workers.handlers.keeper import descendants

GOOD = """
import numpy as np
def preprocess(payload):
    return {"x": np.full((1, 4), payload, np.float32)}
def postprocess(outputs):
    return {"sum": outputs["y"].sum(), "y": outputs["y"]}
"""
# 'die' and the like happen to one payload alone
PICKY = """
import os, sys, time
import numpy as np
def preprocess(payload):
    if payload == "raise":
        raise ValueError("no such word:\\n  zyzzy")
    if payload == "exit":
        sys.exit(7)
    if payload == "die":
        print("about to die")
        os._exit(3)
    if payload == "hang":
        print("about to hang")
        while True:
            pass
    if payload == "grow":
        return {"x": np.ones(2**40)}
    if payload == "wrong":
        return {"z": np.zeros((1, 4))}
    if payload == "none":
        return None
    print("fine", payload)
    return {"x": np.zeros((1, 4), np.float32)}
"""


def test_preprocess_turns_a_payload_into_tensors(bench: Bench) -> None:
    """Each call's dict of arrays arrives as named tensors, in order."""
    first, second = bench.pre(bench.deploy(GOOD), 1, 2)
    assert first["x"].tolist() == [[1.0] * 4]
    assert second["x"].tolist() == [[2.0] * 4]


def test_postprocess_turns_outputs_into_json_values(bench: Bench) -> None:
    """numpy scalars and arrays become numbers and nested lists."""
    record = {"y": encode_tensor(np.ones((1, 4), np.float32))}
    results = bench.hosts.postprocess(bench.deploy(GOOD), [call(0, record)])
    assert results == [{"sum": 4.0, "y": [[1.0] * 4]}]


def test_lists_and_wider_numbers_become_the_dtype_of_the_input(bench: Bench) -> None:
    """preprocess may return nested lists or float64."""
    function = bench.deploy("def preprocess(p): return {'x': [[1, 2, 3, p]]}")
    assert bench.pre(function, 4.5)[0]["x"].tolist() == [[1.0, 2.0, 3.0, 4.5]]


def test_included_files_lie_beside_the_handler(bench: Bench) -> None:
    """`Path(__file__).parent / name` finds them, folders included."""
    code = """
from pathlib import Path
HERE = Path(__file__).parent
def preprocess(payload):
    numbers = [float((HERE / name).read_text()) for name in ("a.txt", "d/b.txt")]
    return {"x": [[*numbers, 0, 0]]}
"""
    function = bench.deploy(code, files={"a.txt": "1", "d/b.txt": "2"})
    assert bench.pre(function, None)[0]["x"].tolist() == [[1.0, 2.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("payload", "error", "reason"),
    [
        ("raise", HandlerFailed, "preprocess: ValueError: no such word: zyzzy"),
        ("exit", HandlerFailed, "preprocess: SystemExit: 7"),
        ("die", HandlerFailed, "preprocess: the handler ended with exit status 3"),
        ("grow", HandlerFailed, "MemoryError"),
        ("wrong", InvalidInput, "inputs.x: expected float32 [rows, 4], got nothing"),
        ("none", InvalidInput, "preprocess: expected a dict from input names to tensors"),
    ],
)
def test_a_bad_payload_fails_alone(
    bench: Bench, payload: str, error: type[Exception], reason: str
) -> None:
    """The jobs before and behind it in the same batch succeed, and the client gets one line."""
    before, bad, behind = bench.pre(bench.deploy(PICKY), "a", payload, "b")
    assert (1, 4) == before["x"].shape == behind["x"].shape
    assert error is type(bad)
    assert reason in str(bad)
    assert "\n" not in str(bad)


def test_a_call_that_never_ends_is_ended_and_fails_alone(
    make_bench: Callable[..., Bench],
) -> None:
    """The host is killed and replaced; what was printed before reaches the log."""
    bench = make_bench(call_s=4.0)
    before, bad, behind = bench.pre(bench.deploy(PICKY), "a", "hang", "b")
    assert HandlerTimeout is type(bad)
    assert "took longer than 4 s" in str(bad)
    assert (1, 4) == before["x"].shape == behind["x"].shape
    assert "about to hang" in bench.text("1")


def test_the_log_has_the_functions_own_traceback(bench: Bench) -> None:
    """Its frames are the function's, without the host's."""
    bench.pre(bench.deploy(PICKY), "raise")
    assert 'handler.py", line 6, in preprocess' in bench.text()
    assert "handlers/host.py" not in bench.text()


def test_output_is_logged_with_the_job_that_printed_it(bench: Bench) -> None:
    """Lines of several calls of one batch are told apart, also when the last one dies."""
    bench.pre(bench.deploy(PICKY), "a", "b", "die")
    assert [line[3] for line in bench.lines if "fine" in line[3] or "about" in line[3]] == [
        "fine a",
        "fine b",
        "about to die",
    ]
    assert [line[1] for line in bench.lines[:3]] == ["0", "1", "2"]


def test_a_flood_of_output_is_cut(bench: Bench) -> None:
    """Lines above the bound are counted, not kept, and the job goes on."""
    code = """
import os
def preprocess(payload):
    for i in range(20000): print("x" * 50)
    os.write(2, b"y" * 300000)
    return {"x": [[0, 0, 0, 0]]}
"""
    assert bench.pre(bench.deploy(code), None)[0]["x"].shape == (1, 4)
    assert len(bench.lines) <= 202
    assert any("more bytes were printed and are dropped" in line[3] for line in bench.lines)
    assert max(len(line[3]) for line in bench.lines) <= 4000


def test_a_handler_that_cannot_be_imported_fails_every_job(bench: Bench) -> None:
    """The reason is the import's own."""
    results = bench.pre(bench.deploy("import no_such_module_anywhere"), 1, 2)
    assert [HandlerFailed] * 2 == [type(result) for result in results]
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in str(results[0])


@pytest.mark.parametrize(
    "returned", ["float('nan')", "{1, 2}", "b'bytes'", "object()", "2**70", "'x' * 2**21"]
)
def test_results_that_json_cannot_hold_are_told(bench: Bench, returned: str) -> None:
    """NaN becomes null as JSON has none; all else is the handler's failure."""
    function = bench.deploy(f"def postprocess(outputs): return {returned}")
    (result,) = bench.hosts.postprocess(function, [call(0, {})])
    assert result is None if "nan" in returned else type(result) is HandlerFailed


def test_garbage_on_the_socket_is_the_functions_own_failure(bench: Bench) -> None:
    """A function that writes to the host's socket breaks nothing but itself."""
    code = """
import os, sys
def preprocess(payload):
    os.write(int(sys.argv[1]), b"\\xff" * 64)
    return {"x": [[0, 0, 0, 0]]}
"""
    (result,) = bench.pre(bench.deploy(code), None)
    assert HandlerFailed is type(result)


def test_a_malformed_body_is_the_callers_fault(bench: Bench) -> None:
    """JSON that is none ends as malformed_body, not as a failure of the handler."""
    calls = [call(0, ["application/json", b"{"])]
    (result,) = bench.hosts.preprocess(bench.deploy(GOOD), calls)
    assert MalformedBody is type(result)


def test_jobs_behind_a_broken_host_expire_instead_of_waiting(bench: Bench) -> None:
    """Starting another host is not worth it for a job whose deadline passed."""
    items = ["application/json", b'"die"'], ["application/json", b'"b"']
    calls = [call(0, items[0]), call(1, items[1], timeout_s=-1)]
    results = bench.hosts.preprocess(bench.deploy(PICKY), calls)
    assert [HandlerFailed, DeadlineExceeded] == [type(result) for result in results]


def test_hosts_see_nothing_of_the_workers_environment(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No address of the store, no secrets; torch is not imported for them."""
    monkeypatch.setenv("REDIS_URL", "redis://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = """
import os, sys
def postprocess(outputs):
    return {"environ": dict(os.environ), "torch": "torch" in sys.modules}
"""
    bench = make_bench()
    (result,) = bench.hosts.postprocess(bench.deploy(code), [call(0, {})])
    assert "secret" not in orjson.dumps(result["environ"]).decode()
    assert not result["torch"]


def test_functions_have_hosts_of_their_own(bench: Bench) -> None:
    """What one function keeps in memory another cannot read; its own host is reused."""
    code = "kept = []\ndef postprocess(outputs): kept.append(1); return len(kept)"
    one, two = bench.deploy(code, "one"), bench.deploy(code, "two")
    counts = [bench.hosts.postprocess(f, [call(0, {})])[0] for f in (one, two, one)]
    assert counts == [1, 1, 2]
    assert len(set(bench.hosts.pids().values())) == 2


def test_idle_hosts_are_stopped_and_their_files_removed(bench: Bench) -> None:
    """With an idle time of 0 the next look ends the host; a later call starts another."""
    function = bench.deploy("import os\ndef postprocess(outputs): return os.getcwd()")
    (folder,) = bench.hosts.postprocess(function, [call(0, {})])
    assert Path(folder).exists()
    pid = bench.hosts.pids()[function.ref]
    bench.hosts.stop_idle(time.monotonic())
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(folder).exists()
    assert folder != bench.hosts.postprocess(function, [call(0, {})])[0]


def test_a_host_ends_with_its_worker_even_inside_an_endless_loop(tmp_path: Path) -> None:
    """kill -9 of the worker leaves no process and no files behind."""
    artifact = tmp_path / "digest-of-f"
    artifact.mkdir()
    (artifact / "handler.py").write_text(
        "import os\ndef preprocess(p):\n  print(os.getcwd())\n  while True: pass\n"
    )
    script = f"""
import sys
from pathlib import Path
from tests.unit.workers.conftest import LIMITS, a_function, call
from workers.handlers.hosts import Hosts
hosts = Hosts(Path({str(tmp_path)!r}), LIMITS._replace(call_s=60), 0.0,
    lambda *line: print(line[3], flush=True))
hosts.preprocess(a_function(), [call(0, ["application/json", b"1"])])
"""
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    folder = Path(worker.stdout.readline().strip())
    assert folder.exists()
    pidfds = [os.pidfd_open(pid) for pid in descendants(worker.pid)]
    assert len(pidfds) == 2
    try:
        worker.kill()
        worker.communicate()
        for pidfd in pidfds:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            assert poller.poll(10_000), "the host outlived its worker"
        assert not folder.exists()
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
