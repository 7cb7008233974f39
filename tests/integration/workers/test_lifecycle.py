"""The life of a worker process: heartbeats, leases, drain, a store that goes and comes back."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import keys
from contract.function import FunctionRef
from contract.job import Status
from contract.store import open_store
from contract.store.workers import WorkerReport
from tests.integration.conftest import running_server
from tests.integration.workers.builders import Platform, WorkerProcess, floats, output_of
from workers.leaving import STOPPED_WORKING

StartWorker = Callable[..., WorkerProcess]
# holds its job until the file that the payload names is there
WAITING = """
import os, time
def preprocess(payload):
    os.makedirs(payload["at"], exist_ok=True)
    open(os.path.join(payload["at"], "begun"), "w").close()
    while not os.path.exists(os.path.join(payload["at"], "go")):
        time.sleep(0.01)
    return {"x": [[1, 2, 3, 4]]}
"""


class Gate:
    """A job that waits inside its hook until it is let go."""

    def __init__(self, platform: Platform, folder: Path, name: str) -> None:
        self.at = folder / name
        function = platform.deploy(name, handler=WAITING)
        body = f'{{"at": "{self.at}"}}'.encode()
        self.job = platform.submit(function, body, "application/json")

    def wait_begun(self) -> None:
        """Wait until the hook runs."""
        _wait(lambda: (self.at / "begun").exists())

    def let_go(self) -> None:
        """Let the hook return."""
        (self.at / "go").touch()


def _wait(is_so: Callable[[], object], timeout_s: float = 15.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.01)  # files and Redis keys of other processes send no event


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def _assert_ends(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        assert poller.poll(5000), "a process was left behind"
        os.close(pidfd)


def test_sigterm_finishes_the_group_under_way_and_hands_the_rest_back(
    platform: Platform, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It says first that it drains; what had not started is queued again, its attempt uncounted."""
    worker = start_worker(FUSEBOX_PLACES="1")
    gate = Gate(platform, tmp_path, "gate-drain")
    platform.dispatch(worker.id, [gate.job])
    gate.wait_begun()
    hosts = [os.pidfd_open(pid) for pid in _children(worker.process.pid)]
    worker.process.terminate()
    _wait(lambda: (report := worker.now(platform)) and report.is_draining)
    waiting = platform.submit(platform.deploy("unstarted"), floats(1, 2, 3, 4))
    platform.claim(worker.id, [waiting])
    gate.let_go()
    assert platform.wait(gate.job).status is Status.SUCCEEDED
    assert worker.process.wait(10) == 0
    job = platform.store.jobs.get(waiting)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)
    assert worker.now(platform) is None
    assert worker.id not in platform.store.workers.missing()
    assert platform.store.server.redis.keys("_kombu*") == []
    assert len(hosts) == 1
    _assert_ends(hosts)


def test_a_hung_group_does_not_keep_a_worker_from_stopping(
    platform: Platform, start_worker: StartWorker, tmp_path: Path
) -> None:
    """After the time to drain it ends; its job is queued again at once, and the attempt counts."""
    worker = start_worker(FUSEBOX_DRAIN_S="0.5")
    gate = Gate(platform, tmp_path, "gate-hung")
    platform.dispatch(worker.id, [gate.job])
    gate.wait_begun()
    hosts = [os.pidfd_open(pid) for pid in _children(worker.process.pid)]
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(10) == 1
    job = platform.store.jobs.get(gate.job)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    platform.store.jobs.cancel(gate.job)
    _assert_ends(hosts)


def test_a_killed_worker_leaves_no_process_behind(
    platform: Platform, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Handler hosts end by themselves."""
    worker = start_worker()
    gate = Gate(platform, tmp_path, "gate-killed")
    platform.dispatch(worker.id, [gate.job])
    gate.wait_begun()
    hosts = [os.pidfd_open(pid) for pid in _children(worker.process.pid)]
    worker.process.kill()
    worker.process.wait(10)
    assert len(hosts) == 1
    _assert_ends(hosts)
    # its lease would run out in the middle of another test
    platform.store.jobs.cancel(gate.job)


def test_heartbeats_renew_leases_while_every_thread_is_busy(
    platform: Platform, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A job that takes longer than its lease keeps it."""
    worker = start_worker(FUSEBOX_PLACES="1", FUSEBOX_LEASE_S="0.8")
    gate = Gate(platform, tmp_path, "gate-lease")
    platform.dispatch(worker.id, [gate.job], lease_s=0.8)
    gate.wait_begun()
    claimed_until_s = platform.store.queue.next_lease_end_s()
    assert claimed_until_s is not None
    _wait(lambda: time.time() > claimed_until_s + 0.5)
    assert platform.store.queue.reap(time.time(), 3) == (0, 0)
    gate.let_go()
    assert platform.wait(gate.job).status is Status.SUCCEEDED
    worker.stop()


def test_a_job_that_was_taken_away_is_not_settled(
    platform: Platform, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A reaped job is queued; the worker that had it finds its fence old and writes nothing."""
    worker = start_worker(FUSEBOX_HEARTBEAT_S="30")
    gate = Gate(platform, tmp_path, "gate-fence")
    tail = platform.store.queue.signal_tail()
    platform.dispatch(worker.id, [gate.job])
    gate.wait_begun()
    assert platform.store.queue.reap_worker(worker.id, 3) == (1, 0)
    gate.let_go()
    platform.wait_for_groups(tail, 1)
    assert Status.QUEUED is platform.store.jobs.get(gate.job).status
    _wait(lambda: platform.store.telemetry.counters().get("fenced", 0) == 1)
    platform.store.jobs.cancel(gate.job)
    worker.stop()


def test_the_heartbeat_runs_in_the_loop_that_consumes(platform: Platform) -> None:
    """Not in a thread of its own: a worker that no longer consumes no longer beats."""
    script = """
import os, signal, sys, threading
from contract.settings import read_settings
from workers.celery_app import make_app
from workers.claims import Claims
from workers.consuming import Drain, Occasions, consume, make_step, register
from workers.heartbeat import Rhythm

class Heart:
    rhythm, beats = Rhythm(0.05, 10.0), 0
    def beat(self):
        frames, frame = [], sys._getframe()
        while frame:
            frames.append(frame.f_code.co_name)
            frame = frame.f_back
        self.beats += 1
        if self.beats == 3:
            print(threading.current_thread() is threading.main_thread(), "asynloop" in frames)
            os.kill(os.getpid(), signal.SIGTERM)
    def drain(self):
        print("drains")

heart, claims = Heart(), Claims()
app = make_app(read_settings(os.environ))
register(app, lambda group, claims: None)
drain = Drain("fusebox.test", heart, claims)
occasions = Occasions(lambda: None, lambda: print("ready", heart.beats), lambda: None)
with drain.on_signals():
    consume(app, "fusebox.test", 2, make_step(heart, drain, occasions))
"""
    environ = os.environ | {"REDIS_URL": platform.store.server.url}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "ready 1\nTrue True\ndrains\n"), done.stderr


def test_consuming_and_heartbeats_go_on_after_the_store_was_away(tmp_path: Path) -> None:
    """Every connection is cut, Celery's too; the worker reports again and runs the next group."""
    with running_server("embedded") as url:
        store = open_store(url, result_ttl_s=60)
        platform = Platform.start(store, tmp_path)
        worker = WorkerProcess.start(platform)
        try:
            store.server.redis.client_kill_filter(_type="normal", skipme=True)
            store.server.redis.client_kill_filter(_type="normal", skipme=True)
            store.server.redis.delete(keys.worker(worker.id))
            _wait(lambda: worker.now(platform))
            function = platform.deploy("again")
            (outcome,) = platform.run(worker.id, platform.submit(function, floats(1, 2, 3, 4)))
            assert output_of(outcome) == [[1, 2, 3, 4]]
            assert worker.stop() == 0
        finally:
            worker.process.kill()
            worker.process.wait(10)
            platform.stop()
            store.close()


@pytest.mark.parametrize("module", ["workers.worker", "workers.celery_app", "workers.scheduling"])
def test_torch_is_imported_by_the_working_process_alone(module: str) -> None:
    """Whoever imports the entry, a supervisor or the scheduler, does not get torch with it."""
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_report_says_what_is_resident(platform: Platform, start_worker: StartWorker) -> None:
    """Functions with their bytes, least recently used first; loads and the DAG cache."""
    worker = start_worker()
    warmed = worker.report.dag_cache  # groups of workers before this one
    for name in ("first", "second"):
        platform.run(worker.id, platform.submit(platform.deploy(name), floats(1, 2, 3, 4)))
    report: WorkerReport | None = None

    def is_reported() -> bool:
        nonlocal report
        report = worker.now(platform)
        return report is not None and len(report.functions) == 2

    _wait(is_reported)
    assert report is not None
    assert list(report.functions) == ["first@1", "second@1"]
    cache = report.dag_cache
    assert (report.loads, cache.misses + cache.hits - warmed.misses - warmed.hits) == (2, 2)
    assert 0 < report.resident_bytes <= report.budget_bytes
    platform.store.functions.retire(FunctionRef("first"))
    # as a gateway does when it removes a function
    platform.store.functions.digests()
    _wait(lambda: (now := worker.now(platform)) and list(now.functions) == ["second@1"])
    worker.stop()


def test_a_group_whose_message_never_comes_ends_the_worker(
    platform: Platform, start_worker: StartWorker
) -> None:
    """It beats and consumes nothing: its watchdog ends it, and its jobs are queued at once."""
    worker = start_worker(FUSEBOX_WATCHDOG_S="1")
    waiting = platform.submit(platform.deploy("never-sent"), floats(1, 2, 3, 4))
    platform.claim(worker.id, [waiting], lease_s=60)
    assert worker.process.wait(30) == STOPPED_WORKING
    job = platform.store.jobs.get(waiting)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    assert worker.id not in platform.store.queue.groups().values()
    assert worker.id not in platform.store.workers.missing()
    platform.store.jobs.cancel(waiting)


def test_a_loop_that_stands_still_is_noticed_from_another_thread(platform: Platform) -> None:
    """Whatever it waits for: here for a heartbeat that never returns."""
    script = """
import os, threading
from contract.settings import read_settings
from workers.celery_app import make_app
from workers.claims import Claims
from workers.consuming import Drain, Occasions, Turns, consume, make_step, register
from workers.heartbeat import Rhythm
from workers.watchdog import Actions, Look, Watchdog

class Heart:
    rhythm, beats = Rhythm(0.05, 10.0), 0
    def beat(self):
        self.beats += 1
        if self.beats == 3:
            threading.Event().wait()

def leave(reason):
    print(reason, "after", heart.beats, flush=True)
    os._exit(7)

heart, turns, none = Heart(), Turns(), frozenset()
app = make_app(read_settings(os.environ))
register(app, lambda group, claims: None)
drain = Drain("fusebox.still", heart, Claims())
look = lambda: Look(turns.count, 0, none, none, none)
actions = Actions(look, leave, lambda within_s: None, None, drain.asked_s)
Watchdog(actions, 4.0, 20.0).start()
occasions = Occasions(lambda: None, lambda: None, turns.turn)
with drain.on_signals():
    consume(app, "fusebox.still", 1, make_step(heart, drain, occasions))
"""
    environ = os.environ | {"REDIS_URL": platform.store.server.url}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (7, "loop_stands_still after 3\n"), done.stderr
