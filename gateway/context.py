"""Everything a handler works with, wired once per process."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event, Timer

from contract.settings import Settings
from contract.store import Store
from contract.tracing import Tracing, open_tracing
from gateway.artifacts import Artifacts
from gateway.following import Following
from gateway.group_commit import GroupCommit
from gateway.lookup import Lookup
from gateway.replies import Replies
from gateway.storing import Storing

# Waits without a client's leave to answer 202 are cut this long before the process is killed.
LAST_CALL_S = 2.0


@dataclass(frozen=True)
class Gateway:
    """One gateway process."""

    settings: Settings
    store: Store
    lookup: Lookup
    commit: GroupCommit
    replies: Replies
    artifacts: Artifacts
    following: Following
    tracing: Tracing | None
    draining: Event = field(default_factory=Event)

    @classmethod
    def wire(cls, settings: Settings, store: Store) -> Gateway:
        """The parts over this store; nothing connects or starts before it is used."""
        replies = Replies(store, settings.max_waiters)
        return cls(
            settings,
            store,
            Lookup(store.functions, store.aliases),
            GroupCommit(
                lambda group: store.jobs.submit(
                    group, settings.queue_limit, settings.function_queue_limit
                )
            ),
            replies,
            Artifacts(settings.artifacts, settings.max_artifact_bytes, _storing(settings)),
            Following(store, replies.gateway_id, settings.max_streams),
            open_tracing(settings, "fusebox-gateway"),
        )

    def drain(self) -> None:
        """Be not ready, let polls go at once and everybody else in time; more often is harmless."""
        if self.draining.is_set():
            return
        self.draining.set()
        self.replies.release(only_polls=True)
        self.following.release()
        last_call_s = max(0.0, self.settings.drain_s - LAST_CALL_S)
        timer = Timer(last_call_s, self.replies.release, kwargs={"only_polls": False})
        timer.daemon = True
        timer.start()


def _storing(settings: Settings) -> Storing | None:
    return Storing(settings.artifacts_url, settings.artifacts) if settings.is_stored_apart else None
