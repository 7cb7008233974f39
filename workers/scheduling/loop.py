"""The loop around the policy: one active scheduler, woken by Redis, stateless across restarts."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from math import inf
from threading import Event

from contract.errors import StoreUnavailable, UnknownFunction
from contract.function import FunctionRef
from contract.job import JobId
from contract.log import Log
from contract.settings import Settings
from contract.store import Store
from contract.store.coming import tell
from contract.store.queue import Cursor, PlannedGroup
from workers.scheduling.coming import coming
from workers.scheduling.costs import PRIOR_COMPUTE_S
from workers.scheduling.groups import can_start
from workers.scheduling.learning import load_costs, save_costs
from workers.scheduling.measures import Measures
from workers.scheduling.policies import Learner, policy_named
from workers.scheduling.records import Dispatch, Limits, PendingJob, Refusal
from workers.scheduling.refusals import refusal_error
from workers.scheduling.sent import Sent
from workers.scheduling.state import State
from workers.scheduling.under_way import UnderWay

log = Log("scheduler")
ROLE = "scheduler"
# The standby takes over this long after the active scheduler's last sign of life.
LEADER_LEASE_S = 3.0
# Leases, workers and leadership are looked after this often; jobs and signals wake at once.
UPKEEP_S = 1.0
# Removed functions are only a leak.
FORGET_S = 10.0
FORGOTTEN_AT_ONCE = 256
RETRY_S = 0.2
# Jobs whose deadlines pass one after another expire together.
EXPIRE_EVERY_S = 0.1
MEASURE_EVERY_S = 0.25
# Workers hear this often what is coming to them, where it has changed.
TELL_EVERY_S = 0.1
# A policy that learns takes a few milliseconds for it no more often than this.
LEARN_EVERY_S = 0.1
# While no place is free, jobs that came are looked at this often.
LOOK_EVERY_S = 0.02
# Jobs that one move of the store expires or refuses, so that it never stalls the others for long.
EXPIRE_AT_ONCE = 256
# Groups that one move of the store claims.
CLAIM_AT_ONCE = 16
# After the store was away, workers get this long to report and to renew before they count as gone.
GRACE_S = 3.0

Seal = Callable[[str, str, Sequence[JobId]], bytes]


class NotLeading(Exception):
    """Another scheduler has become the active one."""


class Scheduler:
    """Turns queued jobs into groups on workers.

    `seal(worker, group, jobs)` makes the message by which a worker runs a group.
    """

    def __init__(self, settings: Settings, store: Store, seal: Seal) -> None:
        self._settings = settings
        self._store = store
        self._seal = seal
        limits = Limits(settings.group_functions, settings.group_jobs)
        self._policy = policy_named(settings.policy, limits)
        self._learner: Learner | None = None
        if isinstance(self._policy, Learner):
            self._policy.adapts = settings.policy_adapts == "on"
            self._learner = self._policy
        self._learn_at_s = 0.0
        # the process id is for whoever wants to know which of them leads
        self._token = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._measures = Measures(settings.policy)
        self._sent = Sent()
        self._has_published = False
        # on the monotonic clock
        self._reap_from_s = 0.0

    def run(self, stop: Event) -> None:
        """Lead whenever no other scheduler does, until `stop` is set."""
        while not stop.is_set():
            try:
                if self._store.workers.lead(ROLE, self._token, LEADER_LEASE_S):
                    self._lead(stop)
                else:
                    stop.wait(UPKEEP_S)
            except NotLeading:
                log.warning("leadership_lost")
            except StoreUnavailable:
                log.warning("store_unavailable")
                self._reap_from_s = time.monotonic() + GRACE_S
                stop.wait(RETRY_S)
        self._resign()

    def _resign(self) -> None:
        try:
            self._store.workers.resign(ROLE, self._token)
        except StoreUnavailable:
            log.warning("resign_failed", lease_s=LEADER_LEASE_S)

    def _lead(self, stop: Event) -> None:
        # signals from here on are heard, so what they change may be read afterwards
        cursor = Cursor(signals=self._store.queue.signal_tail())
        groups = self._store.queue.groups().items()
        lease_end_s = time.time() + self._settings.lease_s
        under_way = {
            group: UnderWay(worker, PRIOR_COMPUTE_S, lease_end_s) for group, worker in groups
        }
        state = State(cursor, under_way, load_costs(self._store))
        log.info("leading", groups=len(state.groups))
        link = self._store.server.blocking()
        upkeep_at_s = measure_at_s = tell_at_s = 0.0
        try:
            while not stop.is_set():
                now_s = time.monotonic()
                if now_s >= upkeep_at_s:
                    self._upkeep(state)
                    upkeep_at_s = now_s + UPKEEP_S
                if now_s >= measure_at_s:
                    self._publish_drain(state)
                    self._publish_measures(state)
                    measure_at_s = now_s + MEASURE_EVERY_S
                wake_in_s = min(upkeep_at_s - time.monotonic(), self._expiry_in_s(state))
                wake_in_s = min(wake_in_s, self._decide_in_s(state))
                is_full = not can_start(state.views(time.time()))
                if is_full:
                    # jobs that gather meanwhile are to be prefetched for, or refused
                    wake_in_s = min(wake_in_s, LOOK_EVERY_S)
                news = self._store.queue.wait(link, state.cursor, wake_in_s, is_full)
                state.cursor = news.cursor
                self._learn_functions(state, state.add_jobs(news.jobs))
                if state.hear_all(news.events, time.time()):
                    state.set_workers(self._store.workers.all())
                self._decide(state)
                self._teach(state)
                if time.monotonic() >= tell_at_s:
                    self._tell_coming(state)
                    tell_at_s = time.monotonic() + TELL_EVERY_S
            save_costs(self._store, self._token, state.costs)
        finally:
            link.close()

    def _upkeep(self, state: State) -> None:
        if not self._store.workers.lead(ROLE, self._token, LEADER_LEASE_S):
            raise NotLeading
        if time.monotonic() >= self._reap_from_s:
            state.drop_workers(self._reap())
        state.set_workers(self._store.workers.all())
        for group in state.lost_groups():
            self._store.queue.end_group(group)
            its = state.groups.pop(group)
            log.warning("group_lost", group=group, worker=its.worker)
        self._forget(state)
        save_costs(self._store, self._token, state.costs)

    def _reap(self) -> list[str]:
        """Queue again what is nobody's any more; the workers that are gone."""
        attempts = self._settings.max_attempts
        missing = self._store.workers.missing()
        for worker in missing:
            queued, failed = self._store.queue.reap_worker(worker, attempts)
            self._store.workers.forget(worker)
            log.warning("worker_lost", worker=worker, requeued=queued, failed=failed)
        queued, failed = self._store.queue.reap(time.time(), attempts)
        if queued or failed:
            log.warning("leases_ran_out", requeued=queued, failed=failed)
        return missing

    def _forget(self, state: State) -> None:
        if time.monotonic() >= state.forget_at_s:
            # those that ran longest ago too; the others are looked at when a scheduler takes over
            known = {*state.pending.functions, *state.costs.refs()[:FORGOTTEN_AT_ONCE]}
            state.forget_functions(self._store.functions.removed(known))
            state.forget_at_s = time.monotonic() + FORGET_S

    def _publish_drain(self, state: State) -> None:
        """Tell gateways how fast the queue drains, while it is measured."""
        rates = state.drain.rates(time.monotonic(), state.settled, state.waiting_since_s)
        if rates or self._has_published:
            self._store.telemetry.set_drain(rates)
        self._has_published = bool(rates)

    def _publish_measures(self, state: State) -> None:
        """Tell people how functions are served and how long decisions take."""
        scheduling = self._store.scheduling
        measured = self._measures.now(state.settled, scheduling.answers, time.monotonic())
        if measured is not None:
            scheduling.publish(measured)

    def _learn_functions(self, state: State, unknown: set[FunctionRef]) -> None:
        for ref in unknown:
            try:
                state.add_function(self._store.functions.get_accepted(ref))
            except UnknownFunction:
                # its jobs wait for their deadline and expire; retire keeps records, so: a bug
                log.exception("function_record_missing", function=ref)

    def _decide(self, state: State) -> None:
        now_s = time.time()
        self._expire(state, state.expired(now_s))
        if not state.pending:
            return
        views, began_s = state.views(now_s), time.perf_counter()
        decided = self._policy.plan(state.pending, views, state.costs, now_s)
        self._measures.decisions.note(time.perf_counter() - began_s, len(decided.dispatches))
        self._refuse(state, decided.refused, now_s)
        for first in range(0, len(decided.dispatches), CLAIM_AT_ONCE):
            self._dispatch(state, decided.dispatches[first : first + CLAIM_AT_ONCE])
        state.wake_at_s = decided.wake_at_s
        state.note_waiting(time.monotonic())

    def _teach(self, state: State) -> None:
        """Tell a policy that learns what became of its groups; what is to be sent was sent."""
        reports, state.reports = state.reports, []
        if self._learner is None or not self._learner.adapts:
            return
        now_s = time.time()
        for report in reports:
            self._learner.observe(report, now_s)
        if time.monotonic() >= self._learn_at_s:
            self._learner.learn()
            self._learn_at_s = time.monotonic() + LEARN_EVERY_S

    def _tell_coming(self, state: State) -> None:
        """Tell workers which functions still have jobs that wait."""
        found = coming(state.pending, state.views(), state.costs, time.time())
        for worker, functions in found.items():
            if functions != state.told.get(worker, ()):
                tell(self._store.server, worker, functions)
        state.told = found

    def _expiry_in_s(self, state: State) -> float:
        return max(EXPIRE_EVERY_S, state.next_deadline_s() - time.time())

    def _decide_in_s(self, state: State) -> float:
        """When the policy asked to be asked again."""
        return max(0.0, state.wake_at_s - time.time()) if state.pending else inf

    def _expire(self, state: State, jobs: list[PendingJob]) -> None:
        for first in range(0, len(jobs), EXPIRE_AT_ONCE):
            some = jobs[first : first + EXPIRE_AT_ONCE]
            self._store.queue.expire([job.id for job in some], "queue")
            for job in some:
                state.remove_job(job)

    def _refuse(self, state: State, refusals: Sequence[Refusal], now_s: float) -> None:
        """Tell whoever waits for these jobs, rather than let them wait in vain."""
        for first in range(0, len(refusals), EXPIRE_AT_ONCE):
            some = refusals[first : first + EXPIRE_AT_ONCE]
            told = [(refusal.job.id, refusal_error(refusal, now_s)) for refusal in some]
            self._store.queue.refuse(told)
            for refusal in some:
                state.remove_job(refusal.job)

    def _dispatch(self, state: State, dispatches: Sequence[Dispatch]) -> None:
        now_s = time.time()
        lease_end_s = now_s + self._settings.lease_s
        groups = [self._planned(dispatch, now_s) for dispatch in dispatches]
        claimed = self._store.queue.claim_all(self._token, lease_end_s, groups)
        if claimed is None:
            raise NotLeading
        for dispatch, planned, claims in zip(dispatches, groups, claimed, strict=True):
            state.start(planned.group, dispatch, claims, lease_end_s, now_s)
            if claims:
                log.debug(
                    "dispatched", group=planned.group, worker=planned.worker, jobs=len(claims)
                )

    def _planned(self, dispatch: Dispatch, now_s: float) -> PlannedGroup:
        notes = [note.encode() for note in self._sent.explain(dispatch, now_s)]
        self._sent.note(dispatch, now_s)
        jobs, group = [job.id for job in dispatch.jobs], secrets.token_hex(8)
        message = self._seal(dispatch.worker, group, jobs)
        return PlannedGroup(dispatch.worker, group, jobs, notes, message)
