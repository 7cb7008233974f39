"""bench/gpu_fusion.py goes through all of its steps without a GPU, and needs little to do so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "gpu_fusion.py"
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


def test_many_of_one_architecture_in_a_dry_run(tmp_path: Path) -> None:
    """In short what the whole one does: every way gives the values of eager models."""
    done = _run(tmp_path, "--dry-run", "--only", "many BERT-base", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert rows["many BERT-base: eager / fused"]["value"] is None
    for way in ("fused", "graphs", "streams", "children", "stack", "eager graphs"):
        assert rows[f"many BERT-base: {way}, largest difference, relative"]["value"] <= 1e-4


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_dry_run_takes_every_step_and_measures_nothing(tmp_path: Path) -> None:
    """From anywhere; every bar is there, and every way gives the values of eager models."""
    done = _run(tmp_path, "--dry-run", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    bars = {case: row["bar"] for case, row in rows.items() if row["unit"] == "x" and row["bar"]}
    assert bars == {
        "8 architectures: eager / fused": 4.0,
        "8 architectures: eager graphs / fused": 1.5,
        "many ResNet-50: eager / fused": 6.0,
        "many BERT-base: eager / fused": 6.0,
        "new combination: captured anew / assembled": 10.0,
    }
    assert rows["memory: less in one process"]["bar"] == pytest.approx(0.3)
    for way in ("fused", "graphs", "streams", "children", "eager graphs"):
        assert f"8 architectures: {way}, largest difference, relative" in rows
    # of one architecture, and so a stack
    for many in ("many ResNet-50", "many BERT-base"):
        assert f"{many}: stack, largest difference, relative" in rows
    compared = {case for case in rows if "difference" in case}
    assert len(compared) == 19
    for case, row in rows.items():
        if case in compared:
            assert 0 <= row["value"] <= 1e-4
        else:
            assert row["value"] is None
            assert row["ok"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing(tmp_path: Path) -> None:
    """And measures nothing."""
    done = _run(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "CUDA" in done.stderr
    assert "--dry-run" in done.stderr
