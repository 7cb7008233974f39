"""bench/gpu_swap.py goes through all of its steps without a GPU, and needs little to do so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "gpu_swap.py"
# a bare accelerator image has none of these
ABSENT = ("contract", "gateway", "workers", "deploy", "flask", "redis", "celery", "pynvml")
WITHOUT = (
    "import runpy, sys\n"
    f"sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
    "sys.argv = sys.argv[1:]\n"
    "sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


def _run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ResNet-152", "Inception-V3", "BERT-base"])
def test_a_dry_run_takes_every_step_and_measures_nothing(tmp_path: Path, name: str) -> None:
    """Every bar is there; weights are right after each swap, cold runs give what warm ones do."""
    done = _run(tmp_path, "--dry-run", "--only", name, "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    compared = {
        f"{name}: tensors that differ after a swap": 0.0,
        f"{name}: largest difference, relative": 1e-4,
    }
    bars = {
        f"{name}: swap-in / pinned copy, bandwidth": 0.9,
        f"{name}: cold - warm, beyond what copying takes longer than computing": 2.0,
    }
    assert {case: row["bar"] for case, row in rows.items() if row["bar"] is not None} == (
        bars | compared
    )
    for case, row in rows.items():
        if case in compared:
            assert 0 <= row["value"] <= compared[case]
        else:
            assert row["value"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing(tmp_path: Path) -> None:
    """And measures nothing."""
    done = _run(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "CUDA" in done.stderr
    assert "--dry-run" in done.stderr
