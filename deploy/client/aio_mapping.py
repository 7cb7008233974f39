"""Many calls by tasks, so many at once: as `deploy.client.mapping` does by threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from contract.errors import FuseboxError, InvalidInput
from deploy.client.bodies import NOTHING, given_calls

if TYPE_CHECKING:
    from deploy.client.bodies import Inputs

X = TypeVar("X")
Y = TypeVar("Y")


class _End:
    """There are no more items."""


def given_calls_of(
    inputs: Iterable[Inputs] | AsyncIterable[Inputs] | None,
    payloads: Iterable[Any] | AsyncIterable[Any] | None,
) -> AsyncIterator[tuple[Inputs | None, Any]]:
    """The inputs and the payload of each of many calls; raises InvalidInput."""
    if isinstance(inputs, AsyncIterable) and payloads is None:
        return _each(inputs, lambda one: (one, NOTHING))
    if isinstance(payloads, AsyncIterable) and inputs is None:
        return _each(payloads, lambda one: (None, one))
    if isinstance(inputs, AsyncIterable) or isinstance(payloads, AsyncIterable):
        raise InvalidInput.of("map", "either inputs or payloads", "both")
    return _in_turn(given_calls(inputs, payloads))


async def map_calls(
    call: Callable[[X], Awaitable[Y]],
    items: AsyncIterator[X],
    concurrency: int,
    is_ordered: bool,
) -> AsyncGenerator[Y | FuseboxError, None]:
    """What `call` gives for each item, or the FuseboxError that it raises.

    Items are taken when their turn comes: never more than `concurrency` ahead of what the caller
    has taken. Whoever stops early has the calls under way cancelled.
    """
    window: deque[asyncio.Task[Y | FuseboxError]] = deque()
    coming: asyncio.Task[X | _End] | None = None
    is_at_end = False

    async def tried(item: X) -> Y | FuseboxError:
        try:
            return await call(item)
        except FuseboxError as error:
            return error

    try:
        while window or not is_at_end:
            if coming is None and not is_at_end and len(window) < concurrency:
                coming = asyncio.ensure_future(_next(items))
            answers = [window[0]] if is_ordered and window else list(window)
            # an item that is long in coming holds up no answer
            awaited: list[asyncio.Task[Any]] = [*answers, *([coming] if coming else [])]
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if coming is not None and coming in done:
                item, coming = coming.result(), None
                if isinstance(item, _End):
                    is_at_end = True
                else:
                    window.append(asyncio.ensure_future(tried(item)))
                continue
            first = next(task for task in answers if task in done)
            window.remove(first)
            yield first.result()
    finally:
        left: list[asyncio.Task[Any]] = [*window, *([coming] if coming else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def raising(found: AsyncGenerator[Y | FuseboxError, None]) -> AsyncIterator[Y]:
    """The same, ended by the first error, which is raised."""
    async with aclosing(found):
        async for one in found:
            if isinstance(one, FuseboxError):
                raise one
            yield one


async def _each(items: AsyncIterable[X], pair: Callable[[X], Y]) -> AsyncIterator[Y]:
    async for item in items:
        yield pair(item)


async def _in_turn(items: Iterable[X]) -> AsyncIterator[X]:
    for item in items:
        yield item


async def _next(items: AsyncIterator[X]) -> X | _End:
    # not StopAsyncIteration: a task cannot hold it
    try:
        return await anext(items)
    except StopAsyncIteration:
        return _End()
