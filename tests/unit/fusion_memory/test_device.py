"""Devices by setting, and memory as /proc and the control groups tell it."""

from pathlib import Path

import pytest

from fusion.device import (
    Device,
    default_budget_bytes,
    device_name,
    free_bytes,
    parse_device,
    total_bytes,
    visible_gpus,
)
from fusion.errors import FusionError
from fusion.memory import available_bytes, limit_bytes, process_resident_bytes

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(
        tmp_path / "proc",
        {
            "meminfo": f"MemTotal: {8 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {6 * 2**20} kB\n",
            "self/cgroup": "0::/\n",
            "self/statm": "100 7 3 0 0 0 0\n",
        },
    )
    return tmp_path / "proc"


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_without_a_limit_memory_is_the_machines(proc: Path, cgroup: Path) -> None:
    """ "max" is no limit, and neither is a missing file."""
    assert (limit_bytes(proc, cgroup), available_bytes(proc, cgroup)) == (8 * GIB, 6 * GIB)
    write(cgroup, {"memory.max": "max\n", "memory.current": "1\n"})
    assert (limit_bytes(proc, cgroup), available_bytes(proc, cgroup)) == (8 * GIB, 6 * GIB)


def test_the_least_limit_above_the_process_counts(proc: Path, cgroup: Path) -> None:
    """Version 2: page cache that can be dropped is room."""
    write(proc, {"self/cgroup": "0::/a/b\n"})
    write(
        cgroup,
        {
            "a/b/memory.max": f"{4 * GIB}\n",
            "a/b/memory.current": f"{1 * GIB}\n",
            "a/memory.max": f"{3 * GIB}\n",
            "a/memory.current": f"{2 * GIB}\n",
            "a/memory.stat": f"anon 1\ninactive_file {GIB // 2}\n",
        },
    )
    assert limit_bytes(proc, cgroup) == 3 * GIB
    assert available_bytes(proc, cgroup) == 3 * GIB // 2


def test_a_container_sees_its_limit_at_the_root(proc: Path, cgroup: Path) -> None:
    """Version 1, whose path is the host's."""
    write(proc, {"self/cgroup": "5:devices:/\n4:memory:/on/the/host\n"})
    write(
        cgroup,
        {
            "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "memory/memory.usage_in_bytes": f"{1 * GIB}\n",
            "memory/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 4}\n",
        },
    )
    assert limit_bytes(proc, cgroup) == 2 * GIB
    assert available_bytes(proc, cgroup) == 5 * GIB // 4


def test_resident_bytes_are_pages_of_statm(proc: Path) -> None:
    """The second field; and this process has some."""
    assert process_resident_bytes(proc) % 7 == 0
    assert process_resident_bytes() > 10 * 2**20


def test_the_cpu_is_measured_and_named() -> None:
    """The budget is four fifths of the total."""
    cpu = parse_device("cpu")
    assert Device("cpu") == cpu
    assert 0 < free_bytes(cpu) <= total_bytes(cpu)
    assert total_bytes(cpu) * 4 // 5 == pytest.approx(default_budget_bytes(cpu), abs=1)
    assert device_name(cpu)


def test_a_processor_is_named_by_its_maker(tmp_path: Path) -> None:
    """The first model name of cpuinfo; the architecture where there is none."""
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name : Fast CPU: 2\n")
    assert device_name(Device("cpu"), tmp_path / "cpuinfo") == "Fast CPU: 2"
    (tmp_path / "cpuinfo").write_text("processor : 0\n")
    assert device_name(Device("cpu"), tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    "setting", ["gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:\u0661", "CPU", ""]
)
def test_another_setting_is_refused(setting: str) -> None:
    """The error shows it and what is expected."""
    with pytest.raises(FusionError, match=r"expected auto, cpu, cuda or cuda:<n>"):
        parse_device(setting)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    """By name, whether torch or the machine lacks it."""
    with pytest.raises(FusionError, match="cuda:99"):
        parse_device("cuda:99")


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, [0, 1]),
        ("", []),
        ("1,0", [1, 0]),
        (" 1 ", [1]),
        ("GPU-ab,0", ["GPU-ab", 0]),
        ("0,7,1", [0]),
        ("-1", []),
    ],
)
def test_ordinals_follow_the_visible_devices(setting: str | None, visible: list) -> None:
    """As CUDA reads CUDA_VISIBLE_DEVICES: an invalid entry hides the rest."""
    assert visible == visible_gpus(2, setting)


@pytest.mark.gpu
@pytest.mark.skipif(parse_device("auto").kind == "cpu", reason="there is no CUDA device")
def test_a_gpu_is_measured_and_named() -> None:
    """Without a CUDA context."""
    gpu = parse_device("auto")
    assert Device("cuda", 0) == gpu
    assert 0 < free_bytes(gpu) <= total_bytes(gpu)
    assert device_name(gpu)
