"""The platform comes up, is deployed to, goes down in order, and comes up again with everything."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from bench._platform import Platform, start
from tests.e2e.conftest import FUNCTIONS


def processes_of(platform: Platform) -> list[str]:
    """Command lines of processes that belong to this platform."""
    marker = f"FUSEBOX_DATA={platform.data.resolve()}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended while we looked
    return found


def call(platform: Platform) -> requests.Response:
    """A call of `linear`."""
    body = {"inputs": {"input": [[1, 2, 3, 4]]}}
    return requests.post(f"{platform.url}/v1/functions/linear/invoke", json=body, timeout=60)


def test_functions_and_jobs_outlive_a_restart_and_no_process_does(tmp_path: Path) -> None:
    """Ctrl-C drains: what is under way is answered."""
    first = start(tmp_path / "d", "--no-examples")
    try:
        first.wait_ready("/healthz")
        first.wait_workers()
        first.deploy(str(FUNCTIONS / "linear.py"), "--name", "linear")
        first.wait_ready()
        answer = call(first).json()
        with ThreadPoolExecutor(8) as pool:
            under_way = [pool.submit(call, first) for _ in range(8)]
            assert first.stop() == 0, first.tail()
            # accepted before the stop: answered; refused: connection error, which raises here
            outcomes = [call_.exception() or call_.result().status_code for call_ in under_way]
        assert all(isinstance(o, requests.ConnectionError) or o == 200 for o in outcomes), outcomes
        assert processes_of(first) == []
    finally:
        first.process.kill()
    second = start(tmp_path / "d", "--no-examples", FUSEBOX_WARM_UP_S="5")
    try:
        second.wait_ready()
        # what ran before the stop is read and built before anyone asks for it
        assert re.search(r"warmed groups=[1-9]", second.log.read_text()), second.tail()
        job = requests.get(f"{second.url}/v1/jobs/{answer['job']}", timeout=10).json()
        assert job["outputs"] == answer["outputs"]
        assert call(second).json()["outputs"] == answer["outputs"]
        assert second.stop() == 0
    finally:
        second.process.kill()


def test_a_second_platform_over_the_same_folder_is_refused(platform: Platform) -> None:
    """Two stores over one append-only file would destroy it."""
    second = start(platform.data, "--no-examples")
    assert second.process.wait(30) == 1
    assert "another `fusebox up` uses the folder" in second.tail()


def test_a_new_version_takes_over_and_the_old_one_can_still_be_called(platform: Platform) -> None:
    """NAME is the latest, NAME@1 the first."""
    platform.deploy(str(FUNCTIONS / "linear.py"), "--name", "moving")
    platform.deploy(str(FUNCTIONS / "linear2.py"), "--name", "moving")
    body = {"inputs": {"input": [[1, 2, 3, 4]]}}
    answers = {
        ref: requests.post(
            f"{platform.url}/v1/functions/{ref}/invoke", json=body, timeout=60
        ).json()
        for ref in ("moving", "moving@1", "linear", "linear2")
    }
    assert (answers["moving"]["version"], answers["moving@1"]["version"]) == (2, 1)
    assert answers["moving"]["outputs"] == answers["linear2"]["outputs"]
    assert answers["moving@1"]["outputs"] == answers["linear"]["outputs"]
    assert platform.fusebox("rm", "moving").returncode == 0
    assert requests.get(f"{platform.url}/v1/functions/moving", timeout=10).status_code == 404


def test_the_platform_is_its_users_alone(platform: Platform) -> None:
    """Nobody else on the machine can open the embedded store."""
    socket = platform.data / "store.sock"
    assert socket.stat().st_mode & 0o077 == 0
    assert socket.stat().st_uid == os.getuid()


def test_a_burst_of_signals_still_drains(tmp_path: Path) -> None:
    """One Ctrl-C may arrive several times: from the terminal, the shell and make."""
    platform = start(tmp_path / "d", "--no-examples")
    try:
        platform.wait_ready("/healthz")
        for _ in range(20):
            platform.process.send_signal(signal.SIGINT)
            platform.process.send_signal(signal.SIGTERM)
        assert platform.process.wait(60) == 0, platform.tail()
        assert processes_of(platform) == []
        assert "did not drain" not in platform.tail()
    finally:
        platform.process.kill()
