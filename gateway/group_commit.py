"""Group commit: jobs that arrive together share one round trip to the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from threading import Event, Lock

from contract.errors import FuseboxError, Unavailable
from contract.job import Submission

# What one atomic move of the store may hold, so that it never stalls the others for long.
MAX_JOBS = 256
MAX_BYTES = 8 * 2**20

Refusal = FuseboxError | None
Commit = Callable[[Sequence[Submission]], list[Refusal]]


class _Member:
    """A submission and the caller that waits for it."""

    __slots__ = ("error", "is_leader", "refusal", "submission", "wake")

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.wake = Event()
        self.is_leader = False
        self.refusal: Refusal = None
        self.error: BaseException | None = None


class GroupCommit:
    """Runs one commit at a time; whoever waits when it ends goes together in the next.

    There is no committer thread and no timer: a lone caller commits at once, in its own thread, and
    a caller that finds a commit under way either rides along in the next one or leads it.
    """

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._lock = Lock()
        self._waiting: deque[_Member] = deque()
        self._is_busy = False

    def submit(self, submission: Submission) -> Refusal:
        """Commit it, alone or with others; why it was refused, or None. Raises what commit raises.

        The callers of one group each raise a copy of its error.
        """
        member = _Member(submission)
        with self._lock:
            self._waiting.append(member)
            if not self._is_busy:
                self._is_busy = member.is_leader = True
        if not member.is_leader:
            member.wake.wait()
        if member.is_leader:
            self._lead()
        if member.error is not None:
            raise copy(member.error) from member.error
        return member.refusal

    def submit_all(self, submissions: Sequence[Submission]) -> list[Refusal | BaseException]:
        """Commit them in as few groups as they fit; per submission its refusal, error or None."""
        members = [_Member(submission) for submission in submissions]
        with self._lock:
            self._waiting.extend(members)
            if members and not self._is_busy:
                self._is_busy = members[0].is_leader = True
        # groups are taken in order, so a member leads only when those before it are through
        for member in members:
            if not member.is_leader:
                member.wake.wait()
            if member.is_leader:
                self._lead()
        return [member.error or member.refusal for member in members]

    def _lead(self) -> None:
        group = self._take()
        try:
            refusals = self._commit([member.submission for member in group])
            for member, refusal in zip(group, refusals, strict=True):
                member.refusal = refusal
        except Exception as error:  # noqa: BLE001  # raised again in every caller
            for member in group:
                member.error = error
        except BaseException:
            # this caller is being ended; the others must not take silence for acceptance
            for member in group:
                member.error = Unavailable("The commit was interrupted; try again.")
            raise
        finally:
            self._hand_over(group)

    def _take(self) -> list[_Member]:
        """The next group: at most MAX_JOBS, and MAX_BYTES unless one job alone is larger."""
        group: list[_Member] = []
        taken_bytes = 0
        with self._lock:
            while self._waiting and len(group) < MAX_JOBS:
                taken_bytes += len(self._waiting[0].submission.payload)
                if group and taken_bytes > MAX_BYTES:
                    break
                group.append(self._waiting.popleft())
        return group

    def _hand_over(self, group: list[_Member]) -> None:
        """Wake the group, and make the first who waits the next leader."""
        with self._lock:
            successor = self._waiting[0] if self._waiting else None
            self._is_busy = successor is not None
        if successor is not None:
            successor.is_leader = True
            successor.wake.set()
        for member in group:
            member.wake.set()
