"""Workers that no longer work well are replaced; every process ends in time when it is asked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import requests

from bench._platform import Platform, running_platform, start
from tests.e2e.conftest import FUNCTIONS

pytestmark = pytest.mark.long

WAIT_S = 60.0
BODY = {"inputs": {"input": [[1, 2, 3, 4]]}}


def workers_of(platform: Platform) -> list[dict[str, object]]:
    """The workers that report."""
    found: list[dict[str, object]] = requests.get(f"{platform.url}/v1/workers", timeout=30).json()[
        "workers"
    ]
    return found


def wait(is_so: Callable[[], object], platform: Platform) -> None:
    """Wait until it is so."""
    give_up_at_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_at_s, platform.tail()
        time.sleep(0.05)  # another process: there is nothing to wait on but its answers


def invoke(platform: Platform, name: str, body: dict[str, object]) -> requests.Response:
    """A call."""
    url = f"{platform.url}/v1/functions/{name}/invoke"
    return requests.post(url, json=body, timeout=WAIT_S)


def call_until(platform: Platform, done: Event) -> list[int]:
    """Call `linear` all the time; the status codes."""
    codes = []
    while not done.is_set():
        codes.append(invoke(platform, "linear", BODY).status_code)
    return codes


@pytest.mark.timeout(300)
def test_a_worker_past_its_memory_mark_is_replaced_and_no_call_fails(platform: Platform) -> None:
    """Another is ready before it drains; calls go on all the time."""
    [shared] = workers_of(platform)
    mark_bytes = int(str(shared["baseline_bytes"])) + 48 * 2**20
    with running_platform(FUSEBOX_WORKER_MEMORY_MARK=str(mark_bytes)) as its:
        [old] = workers_of(its)
        its.deploy(str(FUNCTIONS / "linear.py"), "--name", "linear")
        its.deploy(str(FUNCTIONS / "big.py"), "--name", "big")
        done = Event()
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(call_until, its, done) for _ in range(2)]
            assert invoke(its, "big", {"inputs": {"x": [[1.0] * 4096]}}).status_code == 200
            try:
                wait(lambda: old["id"] not in [one["id"] for one in workers_of(its)], its)
            finally:
                done.set()
            codes = {code for call in calls for code in call.result(WAIT_S)}
        assert codes == {200}, its.tail()
        [new] = workers_of(its)
        assert new["id"] != old["id"]
        # it has left the store a moment before it exits
        wait(lambda: "was replaced and exited with 0" in its.tail(1000), its)


@pytest.mark.timeout(300)
def test_every_process_ends_in_time_though_the_store_hangs(tmp_path: Path) -> None:
    """Whatever waits for the store gives up; nothing has to be killed but the store itself."""
    platform = start(tmp_path / "d", "--no-examples", FUSEBOX_DRAIN_S="2")
    try:
        platform.wait_ready("/healthz")
        platform.wait_workers()
        store = _child_named("valkey", platform.process.pid)
        os.kill(store, signal.SIGSTOP)
        try:
            platform.process.send_signal(signal.SIGINT)
            wait(lambda: platform.process.poll() is not None, platform)
        finally:
            # killed with the platform when all went well
            if platform.process.poll() is None:
                os.kill(store, signal.SIGCONT)
        killed = [line for line in platform.tail(1000).splitlines() if "did not drain" in line]
        assert len(killed) == 1, platform.tail()
        assert "store did not drain in" in killed[0]
    finally:
        platform.process.kill()


def _child_named(word: str, parent: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == parent and word in command:
            return int(folder.name)
    raise AssertionError(f"no child named {word}")
