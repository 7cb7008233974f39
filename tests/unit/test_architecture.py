"""Imports point one way, and nothing heavy is imported where it is not needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"contract", "gateway", "workers", "fusion", "deploy"}
MAY_IMPORT = {
    "contract": set(),
    "fusion": set(),
    "gateway": {"contract"},
    "workers": {"contract", "fusion"},
    "deploy": {"contract", "fusion"},
}
LIBRARIES = {
    # opentelemetry is imported where an endpoint is set, and nowhere else (contract/tracing.py)
    "contract": {"redis", "numpy", "msgpack", "opentelemetry"},
    # `cuda` is cuda-bindings, which comes with torch's CUDA wheel
    "fusion": {"torch", "numpy", "safetensors", "pynvml", "cuda"},
}


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_only_the_packages_below_it(package: str) -> None:
    """The rule of the design: contract and fusion stand alone, the others never meet."""
    allowed = MAY_IMPORT[package] | {package}
    wrong = {
        str(path.relative_to(ROOT)): sorted(crossing)
        for path in (ROOT / package).rglob("*.py")
        if (crossing := (imports(path) & PACKAGES) - allowed)
    }
    assert wrong == {}


@pytest.mark.parametrize("package", sorted(LIBRARIES))
def test_the_lower_packages_use_few_libraries(package: str) -> None:
    """Other processes and bare accelerator images must be able to import them."""
    allowed = LIBRARIES[package] | {package} | set(sys.stdlib_module_names)
    wrong = {
        str(path.relative_to(ROOT)): sorted(foreign)
        for path in (ROOT / package).rglob("*.py")
        if (foreign := imports(path) - allowed)
    }
    assert wrong == {}


def test_only_one_package_speaks_redis() -> None:
    """Everything else asks the store."""
    wrong = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "redis" in imports(path) and path.parent != ROOT / "contract" / "store"
    ]
    # `up` waits for the server to listen, before there is a store
    assert wrong == ["deploy/up.py"]


@pytest.mark.parametrize(
    "module",
    [
        "gateway.app",
        "gateway.server",
        "gateway.events.__main__",
        "workers.scheduling.__main__",
        "workers.celery_app",
        "workers.handlers.host",
        "deploy.cli",
        "deploy.client",
        "deploy.client.aio",
        "deploy.supervisor",
        "deploy.up",
    ],
)
def test_what_runs_without_models_starts_without_torch(module: str) -> None:
    """Importing torch costs seconds and hundreds of megabytes."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_the_python_client_imports_no_library() -> None:
    """Programs import it, and every verb; what speaks HTTP, and NumPy, come with their use."""
    heavy = {"urllib3", "requests", "aiohttp", "httpx", "asyncio", "numpy", "msgpack", "email"}
    code = f"import sys, deploy.client; sys.exit(bool({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_nothing_touches_cuda_at_import(package: str) -> None:
    """A CUDA call in a process that later forks, or in a parent, breaks its children."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "torch = sys.modules.get('torch')\n"
        "sys.exit(torch is not None and torch.cuda.is_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
