"""The Python client on a platform: its documentation is true, and no call is lost or made twice."""

from __future__ import annotations

import asyncio
import doctest
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch

from bench._platform import Platform, running_platform
from deploy.client import AsyncClient, Client, Retries
from tests.e2e.faults.processes import children
from tests.e2e.faults.waiting import eventually
from tests.e2e.functions import linear

FUNCTIONS = Path(__file__).parents[1] / "functions"
DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "clients" / "python.md"
# a client's section of docs/clients.md, with its blocks of Python
SECTIONS = [
    (name, block)
    for name, text in re.findall(
        r"^## (\S+)\n(.*?)(?=^## |\Z)", (DOCS / "clients.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
# kserve takes seconds to import
SLOW = {"kserve"}
CALLS = 300
# a gateway takes seconds to start where others compute
PATIENT = Retries(attempts=100, first_s=0.1, most_s=0.5, total_s=100)
X = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform with the functions that the page calls."""
    with running_platform(FUSEBOX_COMPUTE_THREADS="1") as running:
        for name, file in (("classify", "linear"), ("double", "hooked")):
            running.deploy(str(FUNCTIONS / f"{file}.py"), "--name", name, "--max-batch", "8")
        running.wait_ready()
        yield running


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    """A patient client."""
    with Client(platform.url, retries=PATIENT) as client:
        yield client


def expected(number: int) -> Any:
    """What PyTorch itself answers."""
    with torch.inference_mode():
        return linear.load().eval()(torch.from_numpy(X + number)).numpy()


def test_the_page_is_true(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of docs/clients/python.md gives what stands there."""
    monkeypatch.setenv("FUSEBOX_URL", platform.url)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == PAGE.read_text().count("```python")
    page = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(page, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def run_block(platform: Platform, block: str) -> dict[str, Any]:
    """The names that a block of documentation leaves, called for this platform."""
    address = platform.url.removeprefix("http://")
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        # of their own dependencies
        warnings.simplefilter("ignore")
        exec(block.replace("127.0.0.1:8080", address), names)
    return names


@pytest.mark.parametrize(
    ("name", "block"),
    [
        pytest.param(*one, marks=[pytest.mark.long] if one[0] in SLOW else [], id=one[0])
        for one in SECTIONS
        if one[0] != "CloudEvents"
    ],
)
def test_every_door_gives_the_same_answer(platform: Platform, name: str, block: str) -> None:
    """What docs/clients.md shows of each client is all that it takes."""
    names = run_block(platform, block)
    if name == "replicate":
        # it has no way to say so itself
        names["client"]._client.close()
    output = np.asarray(names["output"])
    np.testing.assert_allclose(output, expected(0), rtol=1e-5, atol=1e-6, err_msg=name)


def test_an_event_is_a_job_of_its_trigger(platform: Platform, client: Client) -> None:
    """With the same answer."""
    event = {"filters": [{"exact": {"type": "flower.measured"}}]}
    client.admin.create_trigger({"name": "measured", "function": "classify", "event": event})
    (block,) = [block for name, block in SECTIONS if name == "CloudEvents"]
    answer = run_block(platform, block)["accepted"]
    assert answer.status_code == 202, answer.text
    (job,) = answer.json()["jobs"]
    output = client.result(job["job"], timeout_s=60).output
    np.testing.assert_allclose(output, expected(0), rtol=1e-5, atol=1e-6)


def accepted(client: Client) -> int:
    """How many jobs there ever were."""
    jobs = client.stats()["jobs"]
    assert jobs["drift"] == 0
    return int(jobs["accepted"])


def kill_gateways(platform: Platform, is_under_way: Event) -> None:
    """Kill every gateway process while calls are under way."""
    assert is_under_way.wait(60)
    (parent,) = children(platform.process.pid, "gateway.server")
    for pid in [parent, *children(parent)]:
        os.kill(pid, signal.SIGKILL)


def by_threads(platform: Platform, on_answer: Callable[[int, Any], None]) -> None:
    """Call often, in order."""
    with Client(platform.url, retries=PATIENT) as client:
        answers = client.map("classify", ({"input": X + n} for n in range(CALLS)), concurrency=8)
        for number, answer in enumerate(answers):
            on_answer(number, answer)


def by_tasks(platform: Platform, on_answer: Callable[[int, Any], None]) -> None:
    """The same with an event loop."""

    async def run() -> None:
        async with AsyncClient(platform.url, retries=PATIENT) as client:
            items = ({"input": X + n} for n in range(CALLS))
            number = 0
            async for answer in client.map("classify", items, concurrency=8):
                on_answer(number, answer)
                number += 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "call_often",
    [by_threads, pytest.param(by_tasks, marks=pytest.mark.long)],
)
def test_gateways_that_are_killed_cost_no_call(
    platform: Platform, client: Client, call_often: Callable[..., None]
) -> None:
    """Each has its own answer, in order, and is one job however often it was sent."""
    before = accepted(client)
    under_way = Event()
    killer = Thread(target=kill_gateways, args=(platform, under_way))
    killer.start()
    gateways = children(platform.process.pid, "gateway.server")

    def on_answer(number: int, answer: Any) -> None:
        np.testing.assert_allclose(answer.output, expected(number), rtol=1e-4, atol=1e-5)
        if number == CALLS // 10:
            under_way.set()
            # so what comes next finds nobody, and what was under way has lost its connection
            killer.join()

    call_often(platform, on_answer)
    assert accepted(client) == before + CALLS
    eventually(
        lambda: children(platform.process.pid, "gateway.server") not in ([], gateways),
        "other gateways",
    )


def test_calls_at_once_run_together(client: Client) -> None:
    """What `map` is for: they share groups."""
    answers = list(client.map("classify", [X] * 64, concurrency=16, ordered=False))
    assert max(answer.group["jobs"] for answer in answers) > 1
