"""Persistent threads that run members side by side, each with one intra-op thread."""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self

import torch

Task = Callable[[], None]  # must not raise: a lane has nobody to tell


class Lanes:
    """Threads started once; close them, or use as a context manager. One run at a time."""

    def __init__(self, count: int) -> None:
        self._queues: list[SimpleQueue[Sequence[Task] | None]] = [
            SimpleQueue() for _ in range(count)
        ]
        self._done: SimpleQueue[int] = SimpleQueue()
        intra_op_threads = torch.get_num_threads()
        self._threads = [
            Thread(target=self._work, args=(i,), name=f"lane-{i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()
        self._wait(count)
        # A lane's setting is its own, but also the default of threads that torch has not seen yet.
        torch.set_num_threads(intra_op_threads)

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self._threads)

    def run(self, tasks: Sequence[Sequence[Task]]) -> None:
        """Lane i runs the tasks of `tasks[i]` in order; returns when all are done."""
        busy = [(queue, todo) for queue, todo in zip(self._queues, tasks, strict=False) if todo]
        assert sum(map(len, tasks)) == sum(len(todo) for _, todo in busy), "more tasks than lanes"
        for queue, todo in busy:
            queue.put(todo)
        self._wait(len(busy))

    def close(self) -> None:
        """End the threads; nothing may be running."""
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self, count: int) -> None:
        for _ in range(count):
            self._done.get()

    def _work(self, lane: int) -> None:
        torch.get_num_threads()  # a thread's first call takes the process's default: get it over
        torch.set_num_threads(1)
        self._done.put(lane)
        with torch.inference_mode():
            while (todo := self._queues[lane].get()) is not None:
                for task in todo:
                    task()
                # what a lane still names while it waits, weights among it, could not be freed
                del task, todo
                self._done.put(lane)
