"""The gateway keeps to its own description, whatever schemathesis makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench._platform import Platform
from tests.integration.hostile.harness import note

# no 5xx; status, media type, headers and body as described
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
# The name that calls go to: any other is 404 and tells nothing of bodies.
CALLED = '[parameters]\n"path.name" = "echo"\n"path.model" = "echo"\n'
# an artifact is nothing that a schema describes: it has cases of its own
EVERYTHING = ("--exclude-operation-id", "deploy")
CALLED_BY = (
    "invoke", "lambda_Invoke", "lambda_CreateAlias", "openfaas_call_post", "openfaas_async",
    "predictions_create_of", "v2_model_infer",
)  # fmt: skip
CALLS = tuple(word for name in CALLED_BY for word in ("--include-operation-id", name))


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("name", "choice", "config"),
    [("OpenAPI", EVERYTHING, ""), ("OpenAPI, calls", CALLS, CALLED)],
    ids=["everything", "calls"],
)
def test_answers_are_as_described(
    platform: Platform, tmp_path: Path, name: str, choice: tuple[str, ...], config: str
) -> None:
    """No server error, no status, header or body that `/openapi.json` does not have."""
    file = tmp_path / "schemathesis.toml"
    file.write_text(config)
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", file,
        "run", f"{platform.url}/openapi.json", "--checks", CHECKS, "--phases", "fuzzing",
        "--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none",
        "--request-timeout", "30", *choice,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )
    tried = next((line for line in done.stdout.splitlines() if " generated, " in line), "0")
    note(name, int(tried.split()[0]), int(done.returncode != 0))
    assert done.returncode == 0, done.stdout[-6000:]
