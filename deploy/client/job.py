"""Jobs as futures: one handle for programs with threads, one for those with tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING

from contract.errors import JobSettled
from deploy.client.answers import Answer, Record, is_settled

if TYPE_CHECKING:
    from typing import Any

    from deploy.client.aio import AsyncClient
    from deploy.client.events import Event
    from deploy.client.sync import Client


class Job:
    """A job that goes on without its caller; its `id` finds it again, `Client.job(id)`."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def result(self, timeout_s: float | None = None) -> Answer:
        """What it gave; raises the error that it ended with, and WaitTimeout."""
        return self._client.result(self.id, timeout_s)

    def record(self) -> Record:
        """All that is known of it now, as docs/http.md describes."""
        return self._client.record(self.id)

    def status(self) -> str:
        """`queued`, `running`, or how it ended."""
        return str(self.record()["status"])

    def done(self) -> bool:
        """Whether it has ended."""
        return is_settled(self.record())

    def cancel(self) -> bool:
        """Cancel it; False where it has ended otherwise already."""
        try:
            self._client.cancel(self.id)
        except JobSettled:
            return False
        return True

    def events(self, last_id: str = "") -> Iterator[Event]:
        """What happens to it, as it happens."""
        return self._client.events(self.id, last_id)


class AsyncJob:
    """A job that goes on without its caller; awaited, it gives its answer."""

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    def __await__(self) -> Generator[Any, None, Answer]:
        return self.result().__await__()

    async def result(self, timeout_s: float | None = None) -> Answer:
        """What it gave; raises the error that it ended with, and WaitTimeout."""
        return await self._client.result(self.id, timeout_s)

    async def record(self) -> Record:
        """All that is known of it now, as docs/http.md describes."""
        return await self._client.record(self.id)

    async def status(self) -> str:
        """`queued`, `running`, or how it ended."""
        return str((await self.record())["status"])

    async def done(self) -> bool:
        """Whether it has ended."""
        return is_settled(await self.record())

    async def cancel(self) -> bool:
        """Cancel it; False where it has ended otherwise already."""
        try:
            await self._client.cancel(self.id)
        except JobSettled:
            return False
        return True

    def events(self, last_id: str = "") -> AsyncIterator[Event]:
        """What happens to it, as it happens."""
        return self._client.events(self.id, last_id)
