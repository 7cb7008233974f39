"""Compiling in the background: begun by runs, proven, kept, given up; real compilers."""

import signal
import subprocess
import time

import pytest
import torch

from fusion.codegen import generate
from fusion.compiled import has_compiler
from fusion.ir import Node, Ref
from fusion.tiers import COMPILED, GENERATED
from tests.unit.fusion.shared import small_graph
from workers.compiling import MOST_TRIALS, Compiling, file_name, last_line

X = [torch.rand(2, 4)]
GIVE_UP_S = 280.0


def _program(*operators):
    nodes = [Node(name, (Ref("node", i - 1) if i else Ref("input", 0),))
             for i, name in enumerate(operators)]  # fmt: skip
    return generate(small_graph(*nodes))


def _look_until(compiling, is_so):
    give_up_at_s = time.monotonic() + GIVE_UP_S
    while not is_so():
        assert time.monotonic() < give_up_at_s
        compiling.look()
        time.sleep(0.05)  # another process: there is nothing to wait on but its end


def _run(program, times=20):
    for _ in range(times):
        program.tiers.run(2, [], X)


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
@pytest.mark.timeout(600)
def test_what_runs_often_is_compiled_and_kept(tmp_path):
    """And what cannot be compiled is tried once."""
    often, seldom = _program("tanh", "exp"), _program("exp", "neg")
    compiling = Compiling(tmp_path, lambda: [often, seldom], after_runs=5, runners=2)
    compiling.look()
    _run(often)
    _look_until(compiling, lambda: COMPILED in often.tiers.names)
    _run(often)
    compiling.look()
    assert often.tiers.is_proven(COMPILED)
    assert COMPILED not in seldom.tiers.names
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"lock", f"{often.graph.architecture}.pt2"}
    compiling.stop()

    again = _program("tanh", "exp")
    compiling = Compiling(tmp_path, lambda: [again], after_runs=5, runners=2)
    compiling.look()
    assert COMPILED in again.tiers.names  # without a run
    trials = tmp_path / f"{again.graph.architecture}.trials"
    assert trials.read_text() == "1"
    compiling.stop()
    assert not trials.exists()

    trials.write_text(str(MOST_TRIALS))
    third = _program("tanh", "exp")
    compiling = Compiling(tmp_path, lambda: [third], after_runs=5, runners=2)
    compiling.look()
    _run(third)
    compiling.look()
    assert third.tiers.names == (GENERATED,)
    assert (
        "ended while it was on trial"
        in (tmp_path / f"{third.graph.architecture}.failed").read_text()
    )
    compiling.stop()


@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
def test_stopping_ends_the_compiler_at_once(tmp_path):
    """Nothing of it is left, and nothing begins after."""
    program = _program("tanh")
    (tmp_path / "cache" / "of a worker that was killed").mkdir(parents=True)
    compiling = Compiling(tmp_path, lambda: [program], after_runs=1, runners=1)
    _run(program)
    compiling.look()
    process = compiling._under_way.process
    # another worker waits for its turn
    other = Compiling(tmp_path, lambda: [program], after_runs=1, runners=1)
    other.look()
    assert other._under_way is None
    compiling.stop()
    assert process.returncode == -signal.SIGKILL
    assert subprocess.run(["pgrep", "-g", str(process.pid)], check=False).returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
    compiling.look()
    assert compiling._under_way is None


def test_a_broken_package_is_given_up(tmp_path):
    """The function runs on generated code."""
    program = _program("tanh")
    package = tmp_path / f"{program.graph.architecture}.pt2"
    package.write_bytes(b"no archive")
    compiling = Compiling(tmp_path, lambda: [program], after_runs=10**6, runners=1)
    if not has_compiler():
        compiling._after_runs = 10**6
    compiling.look()
    assert program.tiers.names == (GENERATED,)
    assert not package.exists()
    assert package.name.removesuffix(".pt2") in package.with_suffix(".failed").read_text()


def test_zero_never_compiles(tmp_path):
    """Nor looks for packages."""
    program = _program("tanh")
    _run(program)
    Compiling(tmp_path / "none", lambda: [program], after_runs=0, runners=1).look()
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_no_reason_to_end(tmp_path):
    """The next look tries again."""
    program = _program("tanh")
    _run(program)
    (tmp_path / "file").write_text("where the folder should be")
    compiling = Compiling(tmp_path / "file", lambda: [program], after_runs=1, runners=1)
    compiling.look()
    assert compiling._under_way is None


def test_names_of_devices_are_names_of_folders():
    """Only letters, digits, dots and dashes."""
    assert (
        file_name("Intel(R) Xeon(R) @ 2.50GHz, torch 2/..") == "intel-r-xeon-r-2.50ghz-torch-2-.."
    )
    assert last_line("a\nb\n\n") == "b"
    assert last_line("\n") == ""
