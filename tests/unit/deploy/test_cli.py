"""The command line: what it prints, and what it exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contract.errors import BY_CODE
from deploy.cli import main
from deploy.errors import exit_code
from tests.unit.deploy.conftest import Fusebox
from tests.unit.deploy.fake_gateway import ANSWER, FUNCTION, JOB, FakeGateway, job, problem

ROOT = Path(__file__).resolve().parents[3]
INVOKE = "/v1/functions/echo/invoke"
KEY: dict[str, Any] = {
    "id": "0123456789ab",
    "name": "shop",
    "scopes": ["invoke"],
    "rate": "100/minute",
    "created_at": "2026-01-02T03:04:05Z",
    "expires_at": None,
    "last_used_at": None,
}
TOKEN = f"fb_{KEY['id']}_{'a' * 64}"
LINE = {
    "at": "2026-01-02T03:04:05.678Z",
    "version": 2,
    "job": JOB,
    "level": "error",
    "text": "ValueError: no",
}


@pytest.fixture
def full(gateway: FakeGateway) -> FakeGateway:
    """A gateway with one function, one job and one line of log."""
    gateway.on("GET", "/v1/functions", (200, {"functions": [FUNCTION]}))
    gateway.on("GET", "/v1/functions/echo", (200, FUNCTION))
    gateway.on("DELETE", "/v1/functions/echo", (200, {"name": "echo", "removed_versions": [1, 2]}))
    gateway.on("GET", "/v1/functions/echo/logs", (200, {"lines": [LINE]}))
    gateway.on("POST", INVOKE, (200, ANSWER))
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, job("succeeded", outputs={"y": [1.0]})))
    gateway.on("DELETE", f"/v1/jobs/{JOB}", (200, job("cancelled")))
    gateway.on("POST", "/v1/keys", (201, KEY | {"key": TOKEN}))
    gateway.on("GET", "/v1/keys", (200, {"keys": [KEY]}))
    gateway.on("DELETE", f"/v1/keys/{KEY['id']}", (200, KEY))
    return gateway


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["ls"], {"functions": [FUNCTION]}),
        (["describe", "echo"], FUNCTION),
        (["rm", "echo"], {"name": "echo", "removed_versions": [1, 2]}),
        (["logs", "echo"], LINE),
        (["invoke", "echo", "--data", "{}"], ANSWER),
        (["jobs", "get", JOB], job("succeeded", outputs={"y": [1.0]})),
        (["jobs", "wait", JOB], job("succeeded", outputs={"y": [1.0]})),
        (["jobs", "cancel", JOB], job("cancelled")),
        (["keys", "create", "shop"], KEY | {"key": TOKEN}),
        (["keys", "list"], {"keys": [KEY]}),
        (["keys", "revoke", KEY["id"]], KEY),
        (["keys", "revoke", TOKEN], KEY),
    ],
)
@pytest.mark.usefixtures("full")
def test_json_is_the_record_in_one_line(
    fusebox: Fusebox, args: list[str], expected: dict[str, Any]
) -> None:
    """What scripts read is what the API answers."""
    result = fusebox(*args, "--json")
    assert (0, expected) == (result.exit_code, json.loads(result.stdout))
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "texts"),
    [
        (["ls"], ["echo", "44.9 MB", "x float32 [rows, 4]", "50 ms", "device"]),
        (["describe", "echo"], ["echo@2", "1, 2", "1,234", "48 (68 exported)", "preprocess"]),
        (["describe", "echo"], ["compiled, 0.1 ms: 3.00 times as fast as generated"]),
        (["describe", "echo"], ["at 4 rows", "generated, 0.5 ms", "with c@1 x1 + echo@2 x1"]),
        (["describe", "echo"], ["serial, not measured"]),
        (["describe", "echo"], ["branches, 2 ms: 1.50 times as fast as serial"]),
        (["describe", "echo"], ["with d@1 x1 + echo@2 x1", "serial, 3 ms; branches 4 ms"]),
        (["rm", "echo"], ["removed echo, versions 1, 2"]),
        (["logs", "echo"], ["ValueError: no", JOB, "@2"]),
        (["jobs", "get", JOB], [JOB, "succeeded", '{"y": [1.0]}']),
        (["jobs", "cancel", JOB], [f"{JOB} is cancelled"]),
        (["keys", "create", "shop"], [TOKEN]),
        (["keys", "list"], ["0123456789ab", "shop", "invoke", "100/minute"]),
        (["keys", "revoke", "0123456789ab"], ["revoked 0123456789ab shop (invoke), 100/minute"]),
    ],
)
@pytest.mark.usefixtures("full")
def test_people_read_tables(fusebox: Fusebox, args: list[str], texts: list[str]) -> None:
    """With everything that they came for."""
    result = fusebox(*args)
    assert result.exit_code == 0
    assert [text for text in texts if text not in result.stdout] == []


@pytest.mark.usefixtures("full")
def test_an_answer_can_be_piped_on(fusebox: Fusebox) -> None:
    """Standard output holds the outputs alone; timings and the job stand beside them."""
    result = fusebox("invoke", "echo", "--data", '{"inputs": {}}')
    assert ANSWER["outputs"] == json.loads(result.stdout)
    assert JOB in result.stderr
    assert "compute 2 ms" in result.stderr


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_ends_in_its_exit_code_and_one_line(
    fusebox: Fusebox, gateway: FakeGateway, code: str
) -> None:
    """No traceback; the same as JSON for scripts."""
    error = BY_CODE[code]
    gateway.on("POST", INVOKE, problem(error.http_status, code, "it went wrong"))
    plain = fusebox("invoke", "echo", "--data", "1")
    as_json = fusebox("invoke", "echo", "--data", "1", "--json")
    expected = exit_code(error())
    assert (expected, expected) == (plain.exit_code, as_json.exit_code)
    assert plain.stderr == "fusebox: it went wrong\n"
    assert {"code": code, "detail": "it went wrong"} == json.loads(as_json.stdout)["error"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("function_failed", 1),
        ("invalid_input", 2),
        ("unknown_function", 3),
        ("unknown_job", 3),
        ("store_unavailable", 4),
        ("queue_full", 4),
        ("rate_limited", 4),
        ("wait_too_long", 4),
        ("deadline_exceeded", 5),
        ("unauthorized", 6),
        ("forbidden", 6),
    ],
)
def test_exit_codes_are_stable(code: str, expected: int) -> None:
    """Scripts rely on them; docs/cli.md lists them."""
    assert expected == exit_code(BY_CODE[code]())


@pytest.mark.parametrize(
    ("status", "expected"),
    [("succeeded", 0), ("failed", 1), ("cancelled", 1), ("expired", 5), ("refused", 5)],
)
def test_waiting_exits_with_how_the_job_ended(
    fusebox: Fusebox, gateway: FakeGateway, status: str, expected: int
) -> None:
    """`jobs wait` is made for scripts."""
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, job(status)))
    assert expected == fusebox("jobs", "wait", JOB).exit_code


def test_async_prints_the_job_alone(fusebox: Fusebox, gateway: FakeGateway) -> None:
    """So that it can be put into a variable."""
    gateway.on("POST", INVOKE, (202, job("queued")))
    result = fusebox("invoke", "echo", "--data", "1", "--async")
    assert (0, f"{JOB}\n") == (result.exit_code, result.stdout)


def test_a_wait_without_a_result_is_too_late(fusebox: Fusebox, gateway: FakeGateway) -> None:
    """The job is named, and goes on."""
    gateway.on("POST", INVOKE, (202, job("running")))
    result = fusebox("invoke", "echo", "--data", "1", "--wait", "0.1")
    assert (5, f"{JOB}\n") == (result.exit_code, result.stdout)


@pytest.mark.usefixtures("full")
def test_repeat_measures(fusebox: Fusebox) -> None:
    """The latency table, and the same as JSON."""
    args = ("invoke", "echo", "--data", "1", "--repeat", "8", "--concurrency", "2")
    table = fusebox(*args)
    assert [
        text
        for text in ("8, 0 failed", "p50", "p95", "p99", "4.00 jobs", "0.0%", "per second")
        if text not in table.stdout
    ] == []
    summary = json.loads(fusebox(*args, "--json").stdout)
    assert (
        summary["requests"],
        summary["failed"],
        summary["mean_group_jobs"],
        summary["cold_share"],
    ) == (8, 0, 4.0, 0.0)


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["invoke", "echo"],
        ["invoke", "echo", "--data", "1", "--concurrency", "2"],
        ["invoke", "echo", "--data", "1", "--async", "--wait", "1"],
        ["invoke", "echo", "--data", "1", "--repeat", "2", "--async"],
        ["completion", "powershell"],
        ["jobs", "get"],
    ],
)
def test_wrong_usage_exits_with_2(fusebox: Fusebox, args: list[str]) -> None:
    """Before anything is asked."""
    assert fusebox(*args).exit_code == 2


def test_no_platform_exits_with_4_and_names_the_url() -> None:
    """And says what to do."""
    result = CliRunner().invoke(main, ["ls", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 4
    assert "http://127.0.0.1:1; start one with `fusebox up`" in result.stderr


def test_top_writes_a_line_of_json_per_refresh(fusebox: Fusebox, gateway: FakeGateway) -> None:
    """Without a terminal it is still of use."""
    jobs = {"queued": 1, "running": 2, "drift": 0}
    stats = {"at_s": 1.0, "functions": [], "jobs": jobs, "scheduling": None, "prediction_error": {}}
    gateway.on("GET", "/v1/stats", (200, stats))
    gateway.on("GET", "/v1/workers", (200, {"workers": []}))
    gateway.on("GET", "/v1/groups", (200, {"groups": [{"id": "g"}]}))
    result = fusebox("top", "--json", "--interval", "0.1", "--count", "2", "--groups")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["queued"], line["running"]) for line in lines] == [(1, 2), (1, 2)]
    assert [line["groups"] for line in lines] == [[{"id": "g"}]] * 2


def test_top_shows_one_thing_at_a_time(fusebox: Fusebox) -> None:
    """The screen has room for one."""
    assert fusebox("top", "--slo", "--groups").exit_code == 2


WHY = {
    "sentence": "Answered in 57 ms; 41 ms waiting for a place behind 40 jobs (40 of resnet).",
    "queue": {
        "jobs_ahead": 12,
        "own_jobs_ahead": 3,
        "jobs_before": 40,
        "functions_before": {"resnet": 40},
        "is_at_least": True,
    },
    "group": {
        "id": "g1",
        "worker": "w1",
        "jobs": 3,
        "members": [{"function": "echo", "version": 2, "rows": 4}],
        "strategies": ["concat"],
        "predicted_ms": 12.0,
        "measured_ms": 13.0,
        "swap_ms": 3.0,
        "build_ms": 0.0,
        "compute_ms": 10.0,
    },
}


@pytest.mark.parametrize(
    ("args", "texts"),
    [
        ([], [WHY["sentence"]]),
        (
            ["--explain"],
            [
                "12 jobs, 3 of its function",
                "at least 40 jobs: 40 resnet",
                "g1 on w1",
                "echo@2 x4",
                "concat",
                "13 ms, swap 3 ms, build 0 ms, compute 10 ms",
            ],
        ),
    ],
)
def test_a_job_says_why_it_waited(
    fusebox: Fusebox, gateway: FakeGateway, args: list[str], texts: list[str]
) -> None:
    """In a sentence; on request in full."""
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, job("succeeded", result=1, explanation=WHY)))
    result = fusebox("jobs", "get", JOB, *args)
    shown = " ".join(result.stdout.split())
    assert [text for text in texts if text not in shown] == []


def test_a_running_job_is_explained_as_far_as_it_has_come(
    fusebox: Fusebox, gateway: FakeGateway
) -> None:
    """Its group has no measured time yet."""
    why = {
        "sentence": "Sent.",
        "queue": {},
        "predicted_ms": 12.0,
        "group": {"id": "g", "worker": "w"},
    }
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, job("running", explanation=why)))
    shown = " ".join(fusebox("jobs", "get", JOB, "--explain").stdout.split())
    assert "group g on w predicted 12 ms" in shown


def test_an_answer_is_explained_where_that_is_asked_for(
    fusebox: Fusebox, gateway: FakeGateway
) -> None:
    """Beside the answer, for people and for programs."""
    gateway.on("POST", INVOKE, (200, ANSWER))
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, job("succeeded", explanation=WHY)))
    call = ["invoke", "echo", "--data", "{}", "--explain"]
    assert WHY["sentence"] in fusebox(*call).stderr
    assert json.loads(fusebox(*call, "--json").stdout)["explanation"] == WHY
    assert fusebox(*call, "--async").exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(fusebox: Fusebox, shell: str) -> None:
    """It calls `fusebox` back."""
    result = fusebox("completion", shell)
    assert result.exit_code == 0
    assert "_FUSEBOX_COMPLETE" in result.stdout


@pytest.mark.usefixtures("full")
def test_names_of_functions_complete(gateway: FakeGateway) -> None:
    """The shell asks with the words typed so far."""
    env = {
        "_FUSEBOX_COMPLETE": "bash_complete",
        "COMP_WORDS": "fusebox describe e",
        "COMP_CWORD": "2",
        "FUSEBOX_URL": gateway.url,
    }
    result = CliRunner().invoke(main, [], env=env, prog_name="fusebox")
    assert "plain,echo" in result.stdout


@pytest.mark.parametrize("verb", [["ls"], ["invoke", "x", "--data", "1"], ["jobs", "get", "x"]])
def test_verbs_start_without_heavy_imports(verb: list[str]) -> None:
    """Only packaging needs torch; the others answer before its import would have ended."""
    code = (
        "import sys\n"
        "from deploy.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'redis', 'transformers'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, *verb, "--url", "http://127.0.0.1:1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_key_is_made_as_it_is_wished(fusebox: Fusebox, full: FakeGateway) -> None:
    """The key alone goes to standard output, so that a script can keep it."""
    args = ["--scope", "invoke", "--scope", "deploy", "--rate", "5/second", "--expires", "30d"]
    made = fusebox("keys", "create", "shop", *args)
    wish = {"name": "shop", "scopes": ["invoke", "deploy"], "rate": "5/second"}
    assert made.stdout == f"{TOKEN}\n"
    assert json.loads(full.asked[-1].body) == wish | {"expires_in_s": 30 * 86_400.0}
    assert fusebox("keys", "create", "--expires", "soon").exit_code == 2
    assert fusebox("keys", "create", "--scope", "root").exit_code == 2


def test_a_key_of_the_environment_is_shown(full: FakeGateway) -> None:
    """FUSEBOX_API_KEY, as a bearer token; a whole key never stands in a path."""
    environ = {"FUSEBOX_URL": full.url, "FUSEBOX_API_KEY": TOKEN}
    assert CliRunner().invoke(main, ["keys", "revoke", TOKEN], env=environ).exit_code == 0
    (asked,) = full.asked
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert "a" * 64 not in asked.path


def test_an_idempotency_key_is_sent_as_a_quoted_string(fusebox: Fusebox, full: FakeGateway) -> None:
    """With and without waiting; many calls cannot share one."""
    call = ["invoke", "echo", "--data", "1", "--idempotency-key", 'order "7"']
    assert fusebox(*call).exit_code == 0
    full.on("POST", INVOKE, (202, job("queued")))
    assert fusebox(*call, "--async").exit_code == 0
    sent = [asked.headers["idempotency-key"] for asked in full.asked]
    assert sent == [r'"order \"7\""'] * 2
    assert fusebox(*call, "--repeat", "2").exit_code == 2
    assert fusebox(*call[:-1], "").exit_code == 2


def test_a_priority_is_sent_as_a_header(fusebox: Fusebox, full: FakeGateway) -> None:
    """With and without waiting, once or often; none unless it is given; only 0 to 9."""
    call = ["invoke", "echo", "--data", "1"]
    assert fusebox(*call, "--priority", "7").exit_code == 0
    assert fusebox(*call, "--priority", "3", "--repeat", "2").exit_code == 0
    assert fusebox(*call).exit_code == 0
    full.on("POST", INVOKE, (202, job("queued")))
    assert fusebox(*call, "--priority", "0", "--async").exit_code == 0
    sent = [asked.headers.get("fusebox-priority") for asked in full.asked]
    assert sent == ["7", "3", "3", None, "0"]
    assert fusebox(*call, "--priority", "10").exit_code == 2
