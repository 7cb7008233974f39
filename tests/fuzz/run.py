"""Coverage-guided fuzzing: `python -m tests.fuzz.run SECONDS [TARGET ...]`, all targets by default.

The seconds are shared among the targets, one process each. Seeds are in `corpus/<target>`; what a
run adds stays in a temporary folder. A finding is printed with its bytes and the exit status is 1:
put them under `corpus/<target>`, where every later run and the test suite start from them.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MAX_LENGTH = 4096
ONE_INPUT_S = 5
MEMORY_MB = 1024
"""What a run may take beyond what it starts with."""


def peak_mb() -> int:
    """The most memory this process had, as libFuzzer reads it: its parent's counts too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fuzz(target: str, seconds: int, found: str) -> None:
    """Fuzz one target in this process, which then ends; what it finds goes to the folder."""
    import atheris  # type: ignore[import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["contract", "gateway", "fusion"]):
        from tests.fuzz.targets import TARGETS
    arguments = [
        sys.argv[0],
        found,
        str(CORPUS / target),
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LENGTH}",
        f"-timeout={ONE_INPUT_S}",
        f"-rss_limit_mb={peak_mb() + MEMORY_MB}",
        f"-artifact_prefix={found}/finding-",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()


def fuzz_apart(target: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether it found nothing."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as found:
        command = [sys.executable, "-m", "tests.fuzz.run", "--one", str(seconds), target, found]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        findings = [path.read_bytes() for path in Path(found).glob("finding-*")]
    tried = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    print(f"{target}: {tried[0].split()[-1] if tried else 0} inputs, exit status {done.returncode}")
    if done.returncode:
        print(*findings, done.stdout[-4000:], done.stderr[-2000:], sep="\n")
    return done.returncode == 0


def main(words: list[str]) -> int:
    """Fuzz the targets named; the exit status."""
    if words[0] == "--one":
        fuzz(words[2], int(words[1]), words[3])
        return 0
    targets = words[1:] or sorted(path.name for path in CORPUS.iterdir())
    seconds = max(1, int(words[0]) // len(targets))
    findings = sum(not fuzz_apart(target, seconds) for target in targets)
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
