"""Many calls, so many at once: results in order or as they come, items taken one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import TypeVar

from contract.errors import FuseboxError, InvalidInput
from deploy.client.request import MAX_CONNECTIONS

X = TypeVar("X")
Y = TypeVar("Y")


def check_concurrency(concurrency: int) -> None:
    """Raise InvalidInput for a number that is none of calls at once."""
    if not 1 <= concurrency <= MAX_CONNECTIONS:
        raise InvalidInput.of("concurrency", f"1 to {MAX_CONNECTIONS}", str(concurrency))


def map_calls(
    call: Callable[[X], Y],
    items: Iterable[X],
    concurrency: int,
    is_ordered: bool,
) -> Generator[Y | FuseboxError, None, None]:
    """What `call` gives for each item, or the FuseboxError that it raises.

    Items are taken when their turn comes: never more than `concurrency` ahead of what the caller
    has taken. Whoever stops early waits for the calls under way. What is raised by the items
    themselves, and all other errors, ends it.
    """
    left = iter(items)
    window: deque[Future[Y | FuseboxError]] = deque()

    def tried(item: X) -> Y | FuseboxError:
        try:
            return call(item)
        except FuseboxError as error:
            return error

    with ThreadPoolExecutor(concurrency, thread_name_prefix="fusebox-map") as pool:
        while True:
            while len(window) < concurrency:
                try:
                    item = next(left)
                except StopIteration:
                    break
                window.append(pool.submit(tried, item))
            if not window:
                return
            if not is_ordered:
                done, _ = wait(window, return_when=FIRST_COMPLETED)
                first = next(future for future in window if future in done)
                window.remove(first)
                window.appendleft(first)
            yield window.popleft().result()


def raising(found: Generator[Y | FuseboxError, None, None]) -> Iterator[Y]:
    """The same, ended by the first error, which is raised."""
    with closing(found):
        for one in found:
            if isinstance(one, FuseboxError):
                raise one
            yield one
