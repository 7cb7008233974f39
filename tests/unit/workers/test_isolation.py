"""Hostile handlers: each fails its own job only, and reaches nothing that is not its own."""

from __future__ import annotations

import ast
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FuseboxError, HandlerFailed, HandlerTimeout, InvalidInput, RequestError
from contract.function import WEIGHTS
from contract.tensors import encode_tensor
from fusion.device import Device
from fusion.weights import write_weights
from tests.unit.workers.conftest import Bench, a_function, call
from workers.eager_slots import Opening
from workers.handlers.hosts import STARTS, STARTS_S, Hosts, _Batch, _decode_json, _decode_tensors
from workers.handlers.keeper import descendants

# `bad` holds what a hostile payload runs; other payloads are answered
HOSTILE = """
import ctypes, os, signal, socket, subprocess, sys, threading, time
import numpy as np

OUT = {{"x": np.zeros((1, 4), np.float32)}}

class Hostile:
    def __reduce__(self): os._exit(66)
    def __len__(self): raise KeyboardInterrupt
    def __iter__(self): raise SystemExit(3)
    def __str__(self): raise ValueError("no text")

class HostileError(Exception):
    __str__ = Hostile.__str__

class Meta(type):
    @property
    def __name__(cls): raise SystemExit(4)
class NamelessError(Exception, metaclass=Meta): pass

def channel():
    for fd in range(3, 1024):
        try: socket.socket(fileno=os.dup(fd)).getpeername()
        except OSError: continue
        yield fd

def bad():
{body}

def preprocess(payload):
    return (bad() or OUT) if payload == "bad" else OUT
"""
FAILURES: dict[str, tuple[str, type[FuseboxError], str]] = {
    "loops": ("while True: pass", HandlerTimeout, "took longer than 4 s"),
    "sleeps with signals blocked": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)",
        HandlerTimeout,
        "took longer",
    ),
    "eats memory": ("return bytearray(2**40)", HandlerFailed, "MemoryError"),
    "eats memory bit by bit": (
        "kept = []\nwhile True: kept.append(bytearray(2**24))",
        HandlerFailed,
        "MemoryError",
    ),
    "raises": ("raise ValueError('no such word')", HandlerFailed, "ValueError: no such word"),
    "raises SystemExit": ("sys.exit(5)", HandlerFailed, "SystemExit: 5"),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt", HandlerFailed, "KeyboardInterrupt"),
    "raises BaseException": ("raise BaseException('b')", HandlerFailed, "BaseException: b"),
    "raises what cannot be told": ("raise HostileError", HandlerFailed, "HostileError"),
    "raises what has no name": ("raise NamelessError", HandlerFailed, "ended with exit status"),
    "recurses": ("bad()", HandlerFailed, "RecursionError"),
    "calls os._exit": ("os._exit(7)", HandlerFailed, "ended with exit status 7"),
    "aborts": ("os.abort()", HandlerFailed, "the handler"),
    "segfaults": ("ctypes.string_at(1)", HandlerFailed, "was ended by SIGSEGV"),
    "closes the socket": ("for fd in channel(): os.close(fd)", HandlerFailed, "the handler"),
    "closes every descriptor": ("os.closerange(0, 256)", HandlerFailed, "the handler"),
    "writes garbage to the socket": (
        "for fd in channel(): os.write(fd, b'\\xff' * 64)",
        HandlerFailed,
        "the handler",
    ),
    "answers for others": (
        "for fd in channel(): os.write(fd, bytes.fromhex('0900000093c4000092a26f6bc0') * 64)",
        HandlerFailed,
        "the handler",
    ),
    "fills a file": (
        "with open('big', 'wb') as f:\n    while True: f.write(bytes(2**20))",
        HandlerFailed,
        "OSError",
    ),
    "opens files": ("kept = [open(__file__) for _ in range(999)]", HandlerFailed, "OSError"),
    "starts threads": (
        "for _ in range(999): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        HandlerFailed,
        "can't start new thread",
    ),
    "returns None": ("return Hostile", InvalidInput, "expected a dict"),
    "returns other names": ("return {'z': OUT['x']}", InvalidInput, "inputs.x"),
    "returns another shape": ("return {'x': np.zeros((1, 5), np.float32)}", InvalidInput, "shape"),
    "returns words": ("return {'x': [['a'] * 4]}", InvalidInput, "not numbers"),
    "returns objects": ("return {'x': np.array([Hostile()])}", InvalidInput, "inputs.x"),
    "returns too much": ("return {'x': np.zeros((2**19, 4), 'f')}", HandlerFailed, "at most"),
    "returns a hostile object": ("return {'x': Hostile()}", InvalidInput, "inputs.x"),
    "returns a recursive list": (
        "deep = []; deep.append(deep); return {'x': deep}",
        InvalidInput,
        "inputs.x",
    ),
}  # fmt: skip


def hostile(body: str) -> str:
    """A handler with this misbehaviour."""
    return HOSTILE.format(body="\n".join(f"    {line}" for line in body.split("\n")))


@pytest.mark.parametrize("name", FAILURES)
def test_a_hostile_call_fails_alone_with_a_reason(
    make_bench: Callable[..., Bench], name: str
) -> None:
    """Calls before and behind it are answered; the reason names function and hook, no path."""
    body, error, reason = FAILURES[name]
    bench = make_bench(
        call_s=4.0 if error is HandlerTimeout else 20.0,
        memory_bytes=2**30, processes=32, file_bytes=2**24, open_files=64,
    )  # fmt: skip
    before, bad, behind = bench.pre(bench.deploy(hostile(body)), "good", "bad", "good")
    assert error is type(bad), bad
    assert reason in str(bad)
    assert str(bad).startswith("f@1 preprocess: ")
    assert not [word for word in ("/", "Traceback", "\n") if word in str(bad)]
    assert (1, 4) == before["x"].shape == behind["x"].shape


@pytest.mark.parametrize("name", ["looping", "forking", "holding", "deaf", "apart"])
def test_what_a_function_started_ends_with_its_host(
    make_bench: Callable[..., Bench], name: str
) -> None:
    """Children in sessions of their own, that ignore signals, or hold the pipes open."""
    body = {
        "looping": "os.fork() or spin()",
        "forking": "while True:\n    try: os.fork()\n    except OSError: pass",
        "holding": "os.fork() or time.sleep(600)",
        "deaf": "if not os.fork():\n    signal.signal(15, signal.SIG_IGN)\n    spin()",
        "apart": "if not os.fork():\n    os.setsid()\n    os.fork()\n    spin()",
    }[name]  # fmt: skip
    code = hostile(body) + "\ndef spin():\n    while True: pass\n"
    before = set(descendants(os.getpid()))
    bench = make_bench(call_s=4.0, processes=32)
    good, bad = bench.pre(bench.deploy(code), "good", "bad")
    assert good["x"].shape == (1, 4)
    bench.hosts.stop()
    assert name != "forking" or isinstance(bad, HandlerTimeout | HandlerFailed)
    assert set(descendants(os.getpid())) <= before


def test_children_that_eat_memory_together_end_their_host(
    make_bench: Callable[..., Bench],
) -> None:
    """Each is within the limit of one process, together they are not."""
    body = """
    for _ in range(8):
        if not os.fork():
            kept = bytearray(b"x") * (200 * 2**20)
            time.sleep(60)
    time.sleep(60)"""
    bench = make_bench(call_s=20.0, memory_bytes=2**29)
    bad, behind = bench.pre(bench.deploy(hostile(body.strip("\n"))), "bad", "good")
    assert "used more than 536870912 bytes of memory" in str(bad)
    assert behind["x"].shape == (1, 4)


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "import os; os._exit(1)", "1/0"])
def test_a_handler_that_cannot_be_imported_fails_its_own_function(
    make_bench: Callable[..., Bench], code: str
) -> None:
    """Hanging, ending, raising: another function of the same worker is answered."""
    bench = make_bench(call_s=4.0)
    broken, fine = bench.deploy(code, "broken"), bench.deploy(hostile("pass"), "fine")
    (error,) = bench.pre(broken, "any")
    assert isinstance(error, HandlerFailed | HandlerTimeout)
    assert str(error).startswith("broken@1 handler.py: ")
    assert bench.pre(fine, "good")[0]["x"].shape == (1, 4)


def test_what_a_call_changes_stays_in_its_own_host(bench: Bench) -> None:
    """Folder, environment and umask of the worker and of other hosts are as they were."""
    one = bench.deploy(hostile("os.chdir('/'); os.environ['LEFT'] = 'x'; os.umask(0)"), "one")
    seen = "import os\ndef postprocess(outputs): return [os.getcwd(), 'LEFT' in os.environ]"
    two = bench.deploy(seen, "two")
    bench.pre(one, "bad")
    (found,) = bench.hosts.postprocess(two, [call(0, {})])
    assert found[0] != "/"
    assert found[1] is False


PROBE = """
import os, pathlib, socket, sys

def blocked(step, *args):
    try: return f"no: {step(*args)}"
    except OSError as error: return type(error).__name__

def reach(address, family=socket.AF_INET):
    with socket.socket(family) as it: return it.connect(address)

def status():
    pairs = (line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return {name: value.split() for name, value in pairs}

def leave_session():
    if pid := os.fork(): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(0 if blocked(os.setsid) == "PermissionError" else 1)

def preprocess(payload):
    return {"x": [[0, 0, 0, 0]]}

def postprocess(outputs):
    facts = pathlib.Path(__file__).with_name("facts").read_text()
    port, unix, artifact, pid = facts.split()
    mine = status()
    return {
        "tcp": blocked(reach, ("127.0.0.1", int(port))),
        "outside": blocked(reach, ("192.0.2.1", 80)),
        "unix": blocked(reach, unix, socket.AF_UNIX),
        "artifact": blocked(os.listdir, artifact),
        "kill": blocked(os.kill, int(pid), 9),
        "environ": blocked(pathlib.Path(f"/proc/{pid}/environ").read_bytes),
        "mount": blocked(os.rmdir, "/proc"),
        "fds": [fd for fd in range(256) if not blocked(os.fstat, fd).isalpha()],
        "capabilities": mine["CapEff"] + mine["CapPrm"] + mine["CapBnd"],
        "user": mine["Uid"][0],
        "new privileges": mine["NoNewPrivs"],
        "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "devices": sorted(os.listdir("/dev")),
        "parent": os.getppid(),
        "umask": os.umask(0),
        "nice": os.nice(0),
        "leaves its session": leave_session(),
        "argv": sys.argv,
    }
"""


def test_a_function_reaches_no_network_no_store_no_files_and_no_process_of_others(
    bench: Bench, tmp_path: Path
) -> None:
    """Tried from inside; where the platform has the rights that it takes."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        path = tmp_path / "store.sock"
        unix.bind(str(path))
        unix.listen()
        facts = f"{tcp.getsockname()[1]} {path} {tmp_path} {os.getpid()}"
        function = bench.deploy(PROBE, files={"facts": facts})
        (found,) = bench.hosts.postprocess(function, [call(0, {})])
    assert bench.hosts.measures()[function.ref] == [
        "processes",
        "network",
        "files",
        *(["user"] * (os.getuid() == 0)),
        "sessions",
    ]
    assert found["tcp"] == "OSError"
    assert found["outside"] == "OSError"
    assert found["unix"] == "FileNotFoundError"
    assert found["artifact"] == "FileNotFoundError"
    assert found["kill"] == "ProcessLookupError"
    assert found["environ"] == "FileNotFoundError"
    assert (found["fds"][:3], len(found["fds"])) == ([0, 1, 2], 4)
    assert found["capabilities"] == ["0" * 16] * 3
    assert int(found["user"]) != 0
    assert found["new privileges"] == ["1"]
    assert found["nice"] == min(19, os.nice(0) + 10)
    assert found["leaves its session"] == 0
    assert found["processes"] == [1]
    assert found["devices"] == ["full", "null", "random", "shm", "urandom", "zero"]
    assert (found["parent"], found["umask"]) == (0, 0o077)


EAGER = """
import os, pathlib, torch

def blocked(step, *args):
    try: return f"no: {step(*args)}"
    except OSError as error: return type(error).__name__

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(4))
    def forward(self, x):
        maps = pathlib.Path("/proc/self/maps").read_text()
        found = {
            "fds": [fd for fd in range(256) if not blocked(os.fstat, fd).isalpha()],
            "weights": "weights.safetensors" in maps,
            "artifacts": blocked(os.listdir, ARTIFACTS),
            "devices": sorted(os.listdir("/dev")),
            "user": os.getuid(),
            "scale": self.scale.tolist(),
        }
        raise RuntimeError(found)

load = Net
"""


def test_an_eager_host_has_its_weights_and_nothing_else_more(bench: Bench, tmp_path: Path) -> None:
    """They are mapped, no descriptor leads to their file, and the folder they lie in is hidden."""
    function = bench.deploy(EAGER.replace("ARTIFACTS", repr(str(tmp_path))))
    write_weights(tmp_path / function.digest / WEIGHTS, {"scale": torch.arange(4.0)})
    limits = bench.limits._replace(call_s=60.0, memory_bytes=2**32)
    open_host = Opening(tmp_path, limits, Device("cpu"), 1, 2**30).open
    hosts = Hosts(tmp_path, limits, 0.0, lambda *line: bench.lines.append(line), open_host)
    item = {"x": encode_tensor(np.ones((1, 4), np.float32))}
    (failed,) = hosts.forward(function, [call(0, item)])
    measures = hosts.measures()[function.ref]
    hosts.stop()
    assert {"processes", "network", "files"} <= set(measures)
    found = ast.literal_eval(failed.detail.partition("RuntimeError: ")[2])
    assert (found["fds"][:3], len(found["fds"])) == ([0, 1, 2], 4)
    assert found["weights"]
    assert found["artifacts"] == "FileNotFoundError"
    assert found["devices"] == ["full", "null", "random", "shm", "urandom", "zero"]
    assert found["user"] != 0
    assert found["scale"] == [0.0, 1.0, 2.0, 3.0]


def test_a_function_may_be_given_the_network(make_bench: Callable[..., Bench]) -> None:
    """FUSEBOX_HANDLER_REACH=network."""
    bench = make_bench(reach="network")
    code = """
import socket
def postprocess(outputs):
    return [name for _, name in socket.if_nameindex()]
"""
    (found,) = bench.hosts.postprocess(bench.deploy(code), [call(0, {})])
    assert found == [name for _, name in socket.if_nameindex()]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)
_refusals = st.fixed_dictionaries(
    {"code": st.sampled_from(["invalid_input", "malformed_body", "internal"]) | _values},
    optional=dict.fromkeys(("detail", "self", "field", "args", "extensions"), _values),
)


@given(_values | st.tuples(st.sampled_from(["ok", "refused", "failed"]), _values, _values))
def test_any_answer_is_read_without_an_error_of_our_own(reply: Any) -> None:
    """What a host says comes from a process that is not trusted."""
    batch = _Batch(a_function(), "preprocess", lambda *_line: None)
    for decode in (_decode_tensors, _decode_json):
        read = list(reply) if isinstance(reply, tuple) else reply
        result = batch.result(0, read, decode)
        assert isinstance(result, FuseboxError) or (isinstance(read, list) and read[0] == "ok")


@given(_refusals)
def test_a_refusal_is_the_callers_fault_or_the_functions_and_nothing_else(record: Any) -> None:
    """No other code of the platform can be forged."""
    batch = _Batch(a_function(), "preprocess", lambda *_line: None)
    result = batch.result(0, ["refused", "invalid_input", record], _decode_tensors)
    assert isinstance(result, RequestError | HandlerFailed)
    assert len(str(result)) <= 400


def test_what_a_hook_starts_yields_to_everything_else(bench: Bench) -> None:
    """A process that it leaves behind gets what is left of the processor."""
    body = "if not os.fork():\n    time.sleep(60)"
    bench.pre(bench.deploy(hostile(body)), "bad")
    (keeper,) = bench.hosts.pids().values()
    give_up_at_s = time.monotonic() + 20
    policies: list[int] = []
    while os.SCHED_IDLE not in policies:
        assert time.monotonic() < give_up_at_s, policies
        policies = [os.sched_getscheduler(pid) for pid in descendants(keeper)]
        time.sleep(0.05)  # another process: there is nothing to wait on but what it did
    assert sorted(policies) == [os.SCHED_OTHER, os.SCHED_IDLE]


def test_a_function_that_computes_for_long_runs_after_the_others(bench: Bench) -> None:
    """As a session; and as before, once it rests."""
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel shares processors out by process")
    function = bench.deploy(
        hostile("end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass")
    )
    bench.pre(function, "good")
    (keeper,) = bench.hosts.pids().values()
    (host,) = descendants(keeper)
    assert _reaches_niceness(host, 0)
    with ThreadPoolExecutor(1) as pool:
        looping = pool.submit(bench.pre, function, "bad")
        assert _reaches_niceness(host, 10)
        looping.result()
    assert _reaches_niceness(host, 0)


def _reaches_niceness(pid: int, nice: int) -> bool:
    give_up_at_s = time.monotonic() + 20
    while time.monotonic() < give_up_at_s:
        if Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == str(nice):
            return True
        time.sleep(0.02)  # the keeper looks when it looks
    return False


def test_hosts_that_end_one_after_another_start_at_a_bounded_rate(bench: Bench) -> None:
    """Every call still gets its own end; only the wait for the next start is longer."""
    function = bench.deploy(hostile("os._exit(7)"))
    began_s = time.monotonic()
    ends = bench.pre(function, *["bad"] * (2 * STARTS), "good")
    assert [type(end) for end in ends[:-1]] == [HandlerFailed] * 2 * STARTS
    assert ends[-1]["x"].shape == (1, 4)
    assert time.monotonic() - began_s >= 2 * STARTS_S
