"""Functions that share tensors against a model: any history of uses, evictions and failures."""

import random
import threading
from collections.abc import Iterable
from itertools import permutations

from hypothesis.stateful import invariant

from fusion.sharing import LENT_BYTES
from fusion.slots import SlotRequest, SlotTable
from tests.unit.fusion_memory.fakes import FakeSharingLoader, made_of
from tests.unit.fusion_memory.histories import HISTORIES, Functions, histories

# by content; two of them too small to be shared alone
SIZES = {0: 4 * LENT_BYTES, 1: 2 * LENT_BYTES, 2: LENT_BYTES, 3: LENT_BYTES, 4: 3 * LENT_BYTES}
SIZES |= {5: 2 * LENT_BYTES, 6: 700, 7: 1}
TENSORS = {
    "a": (0, 1), "b": (0, 2), "c": (3, 0, 1), "d": (4, 6), "e": (2, 5, 4), "f": (5, 7), "g": (1, 0)
}  # fmt: skip
SMALL = {6, 7}
KEEP_ALIVES = dict.fromkeys(TENSORS) | {"c": 0, "f": 3}
BUDGET_BYTES = 12 * LENT_BYTES


def requests(group: list[str]) -> list[SlotRequest]:
    return [made_of(key, {t: SIZES[t] for t in TENSORS[key]}, KEEP_ALIVES[key]) for key in group]


def distinct(keys: Iterable[str]) -> int:
    """Bytes of what these functions hold: small tensors each for itself, others once."""
    keys = [*keys]
    shared = {t for key in keys for t in TENSORS[key]} - SMALL
    return sum(SIZES[t] for t in shared) + sum(
        SIZES[t] for key in keys for t in TENSORS[key] if t in SMALL
    )


FUNCTIONS = Functions(KEEP_ALIVES, requests, distinct, FakeSharingLoader, BUDGET_BYTES)


class SharingHistories(histories(FUNCTIONS)):
    """With the content of every tensor that is leased."""

    @invariant()
    def what_is_leased_is_right(self) -> None:
        for lease, group, _ in self.held:
            for key in group:
                assert TENSORS[key] == tuple(int(t) for t in lease.tensors(key))


TestSharingHistories = SharingHistories.TestCase
TestSharingHistories.settings = HISTORIES


def test_many_threads_share_and_every_tensor_is_right() -> None:
    """Random groups and failures of those that others count on; what was freed would read -1."""
    loader = FakeSharingLoader(BUDGET_BYTES)
    table = SlotTable(loader, BUDGET_BYTES)
    finished: list[int] = []

    def fail_at_times(_: str) -> None:
        if random.random() < 0.2:
            raise MemoryError

    loader.during = fail_at_times
    groups = [[*keys] for count in (1, 2, 3) for keys in permutations(TENSORS, count)]
    fitting = [group for group in groups if distinct(group) + 10 <= BUDGET_BYTES]

    def work(seed: int) -> None:
        chooser = random.Random(seed)
        done = 0
        while done < 60:
            group = chooser.choice(fitting)
            try:
                with table.acquire(requests(group), chooser.randint(0, 10)) as lease:
                    table.check_integrity()
                    for key in group:
                        assert TENSORS[key] == tuple(int(t) for t in lease.tensors(key))
                done += 1
            except MemoryError:
                continue
            table.evict(chooser.choice(sorted(TENSORS)))
        finished.append(seed)

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(range(8)) == sorted(finished)
    table.check_integrity()
    stats = table.stats()
    assert (stats.leases, stats.waiting, stats.pinned_bytes) == (0, 0, 0)
    assert stats.resident_bytes == loader.held_bytes == distinct([*stats.resident])
