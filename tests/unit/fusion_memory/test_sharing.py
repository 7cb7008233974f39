"""Identical tensors of several functions are in memory once, and each is there while it is held."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion.codegen import generate
from fusion.device import Device
from fusion.errors import BudgetExceeded, WeightsError
from fusion.export import export
from fusion.places import PAGE_BYTES
from fusion.sharing import LENT_BYTES, Shares
from fusion.slots import SlotRequest, SlotTable, open_slots
from fusion.spans import page_layout, whole
from fusion.stacking.strided import strided
from fusion.strategies.stack import make_stacks
from fusion.strategies.work import Work
from fusion.weights import WeightEntry, WeightsIndex, write_weights
from tests.unit.fusion_memory.fakes import FakeSharingLoader, made_of
from tests.unit.fusion_memory.test_resident_memory import mapped_bytes
from tests.unit.fusion_memory.test_slots import start, until

MIB = 2**20
UNIT = LENT_BYTES


def model(number: int) -> dict[str, torch.Tensor]:
    """A sibling: what is in the backbone is as in all others, the head its own."""
    return {
        "first": torch.full((100, 1000), 0.5),
        "bias": torch.arange(5.0),  # too small to be shared alone: it lies between the others
        "second": torch.arange(300_000.0).view(300, 1000),
        "scale": torch.full((7,), float(number)),
        "third": torch.full((70, 1000), 0.25),
        "empty": torch.zeros(0, 3),
        "head": torch.full((50, 1000), float(number)),
    }


@pytest.fixture
def siblings(tmp_path: Path) -> list[SlotRequest]:
    return [
        SlotRequest(f"s{k}", path := tmp_path / f"s{k}.safetensors", write_weights(path, model(k)))
        for k in range(4)
    ]


@pytest.fixture
def table() -> SlotTable:
    return open_slots(Device("cpu"), 100 * MIB)


def check(table: SlotTable, requests: list[SlotRequest], folder: Path) -> None:
    """Every tensor is right, and the process takes what is reported."""
    with table.acquire(requests) as lease:
        for request in requests:
            expected = model(int(request.key[1:]))
            found = dict(zip(lease.names(request.key), lease.tensors(request.key), strict=True))
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[name], found[name]) for name in expected)
        del found
        assert mapped_bytes(folder) == table.stats().resident_bytes
    table.check_integrity()


def test_siblings_take_their_backbone_once(
    table: SlotTable, siblings: list[SlotRequest], tmp_path: Path
) -> None:
    """Four for little more than one, as the process is measured; a view of each is of one place."""
    check(table, siblings[:1], tmp_path)
    alone_bytes = table.stats().resident_bytes
    check(table, siblings, tmp_path)
    stats = table.stats()
    # each its head, the page of its scale, its header
    assert stats.resident_bytes - alone_bytes <= 3 * (50 * 1000 * 4 + 4 * PAGE_BYTES)
    assert stats.shared_bytes > 400_000 * 4
    assert (stats.loads, stats.used_bytes) == (4, stats.resident_bytes)
    with table.acquire(siblings) as lease:
        places = {lease.tensors(f"s{k}")[0].data_ptr() for k in range(4)}
        assert len(places) == 1
        assert lease.loaded_bytes == 0


def test_what_others_use_outlives_the_function_that_brought_it(
    table: SlotTable, siblings: list[SlotRequest], tmp_path: Path
) -> None:
    """In whatever order they go and come back; the last takes everything along."""
    check(table, siblings, tmp_path)
    all_bytes = table.stats().resident_bytes
    assert table.evict("s0")
    assert table.stats().leaving_bytes == 0
    check(table, siblings[1:], tmp_path)
    check(table, siblings, tmp_path)  # back, with the others' backbone
    assert table.stats().resident_bytes == pytest.approx(all_bytes, abs=4 * PAGE_BYTES)
    for key in ("s1", "s0", "s3"):
        assert table.evict(key)
        check(table, siblings[2:3], tmp_path)
    assert table.stats().shared_bytes == 0
    assert table.evict("s2")
    assert (table.stats().used_bytes, mapped_bytes(tmp_path)) == (0, 0)
    check(table, siblings[3:], tmp_path)


def test_a_view_keeps_its_own_pages_alone(
    table: SlotTable, siblings: list[SlotRequest], tmp_path: Path
) -> None:
    """Of a tensor that was shared, after both functions have gone."""
    with table.acquire(siblings[:2]) as lease:
        view = lease.tensors("s1")[2]
    assert table.evict("s0")
    assert table.evict("s1")
    stats = table.stats()
    assert stats.leaving_bytes == stats.used_bytes == mapped_bytes(tmp_path)
    assert 300_000 * 4 <= stats.leaving_bytes <= 300_000 * 4 + 2 * PAGE_BYTES
    assert float(view[-1, -1]) == 299_999
    del view
    table.evict_idle(0.0)
    assert (table.stats().used_bytes, mapped_bytes(tmp_path)) == (0, 0)


def test_a_budget_for_two_holds_all_siblings(siblings: list[SlotRequest]) -> None:
    """Also when they come at once, and none is resident."""
    size = siblings[0].index.file_bytes
    table = open_slots(Device("cpu"), 2 * size)
    with table.acquire(siblings):
        assert table.stats().used_bytes <= 2 * size
    assert (table.stats().evictions, len(table.stats().resident)) == (0, 4)
    with pytest.raises(BudgetExceeded, match="s0, s1, s2, s3 needs"):
        open_slots(Device("cpu"), size + 1000).acquire(siblings)


def test_a_stack_of_siblings_reads_the_backbone_where_it_is(
    table: SlotTable, siblings: list[SlotRequest]
) -> None:
    """Distance 0; what they do not share lies at equal distances still."""
    with table.acquire(siblings) as lease:
        held = [lease.tensors(request.key) for request in siblings]
        for tensors in zip(*held, strict=True):
            view = strided(tensors)
            assert view is not None
            assert torch.equal(view, torch.stack(list(tensors)))
            del view
        first, head = ([tensors[k] for tensors in held] for k in (0, 6))
        assert {tensor.data_ptr() for tensor in first} == {first[0].data_ptr()}
        assert len({tensor.data_ptr() for tensor in head}) == 4
        del held, first, head, tensors


def test_stacked_siblings_give_what_each_gives(table: SlotTable, tmp_path: Path) -> None:
    """The strategy finds members' own places where their first weight is one and the same."""
    torch.manual_seed(0)
    backbone = nn.Linear(256, 256)
    programs, requests = [], []
    for k in range(3):
        module = nn.Sequential(backbone, nn.ReLU(), nn.Linear(256, 100)).eval()
        made = export(module, {"x": torch.randn(2, 256)}, 4)
        path = tmp_path / f"{k}.safetensors"
        requests.append(SlotRequest(str(k), path, write_weights(path, made.weights)))
        programs.append(generate(made.graph))
    stacks = make_stacks(programs)
    assert stacks is not None
    with table.acquire(requests) as lease, torch.inference_mode():
        # in an order that is not that of their places
        works = [
            Work(programs[k], lease.tensors(str(k)), [torch.randn(2, 256)], 2) for k in (1, 2, 0)
        ]
        assert len({work.weights[0].data_ptr() for work in works}) == 1
        expected = [work.run() for work in works]
        alone: list[Work] = []
        for found, (y,) in zip(stacks(works, _noted(alone)), expected, strict=True):
            torch.testing.assert_close(found[0], y)
        assert alone == []
        del works, expected, found, y, stacks


def _noted(alone: list[Work]) -> Callable[[Work], list[torch.Tensor]]:
    def run(work: Work) -> list[torch.Tensor]:
        alone.append(work)
        return work.run()

    return run


def test_only_what_is_loaded_is_compared(table: SlotTable, siblings: list[SlotRequest]) -> None:
    """A file whose shared part is broken serves as long as that part is another's, no longer."""
    broken = siblings[1].path
    content = bytearray(broken.read_bytes())
    content[siblings[1].index.data_offset + 8] ^= 1
    broken.write_bytes(content)
    table.acquire(siblings[:2]).release()
    for key in ("s0", "s1"):
        assert table.evict(key)
    for _ in range(2):
        with pytest.raises(WeightsError, match="'first': sha256"):
            table.acquire(siblings[1:2])
        assert table.stats().used_bytes == 0  # nothing of it stays mapped


@pytest.fixture
def loader() -> FakeSharingLoader:
    return FakeSharingLoader(10 * UNIT)


@pytest.fixture
def loading(loader: FakeSharingLoader) -> Iterator[tuple[SlotTable, threading.Event]]:
    """A table on which "lender" is being loaded by another thread, until the event is set."""
    table = SlotTable(loader, 10 * UNIT)
    began, go_on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == "lender" and not began.is_set():
            began.set()
            assert go_on.wait(10)

    loader.during = hold
    thread = start(lambda: _acquire_and_release(table))
    assert began.wait(10)
    yield table, go_on
    thread.join(10)
    assert not thread.is_alive()
    table.check_integrity()


def _acquire_and_release(table: SlotTable) -> None:
    with contextlib.suppress(WeightsError):  # as the test wants it
        table.acquire([made_of("lender", {1: 3 * UNIT, 2: UNIT})]).release()


BORROWER = made_of("borrower", {1: 3 * UNIT, 3: UNIT})


def test_a_tensor_that_is_on_its_way_is_waited_for(
    loader: FakeSharingLoader, loading: tuple[SlotTable, threading.Event]
) -> None:
    """And not loaded twice."""
    table, go_on = loading
    found: list[list[int]] = []

    def borrow() -> None:
        with table.acquire([BORROWER]) as lease:
            found.append([int(tensor) for tensor in lease.tensors("borrower")])

    thread = start(borrow)
    until(lambda: table.stats().leases == 2)
    assert found == []
    go_on.set()
    thread.join(10)
    assert found == [[1, 3]]
    assert (loader.held_bytes, table.stats().loaded_bytes) == (5 * UNIT, 5 * UNIT)


def test_a_tensor_that_does_not_arrive_is_loaded_by_who_counted_on_it(
    loader: FakeSharingLoader, loading: tuple[SlotTable, threading.Event]
) -> None:
    """The failure is the failing function's alone, for all that wait."""
    table, go_on = loading
    loader.broken = {"lender"}
    found: list[list[int]] = []

    def borrow() -> None:
        with table.acquire([made_of("other", {4: UNIT}), BORROWER]) as lease:
            found.append([int(tensor) for tensor in lease.tensors("borrower")])

    threads = [start(borrow), start(borrow)]
    until(lambda: table.stats().leases == 3)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert found == [[1, 3], [1, 3]]
    assert {"other", "borrower"} == {*table.stats().resident}
    assert loader.held_bytes == table.stats().used_bytes == 5 * UNIT


def test_waiting_for_a_tensor_ends_in_time(
    loading: tuple[SlotTable, threading.Event],
) -> None:
    """And leaves nothing behind."""
    table, go_on = loading
    with pytest.raises(TimeoutError):
        table.acquire([BORROWER], timeout_s=0.01)
    assert table.stats().leases == 1
    go_on.set()


def test_eviction_frees_only_what_nobody_else_holds(loader: FakeSharingLoader) -> None:
    """So it goes on until that is enough, or takes nothing at all."""
    table = SlotTable(loader, 10 * UNIT)
    for key, own in (("a", 2), ("b", 3), ("c", 4)):
        table.acquire([made_of(key, {1: 5 * UNIT, own: UNIT})]).release()
    assert table.stats().used_bytes == 8 * UNIT
    table.acquire([made_of("d", {5: 3 * UNIT})]).release()
    assert table.stats().resident == ("b", "c", "d")
    with table.acquire([made_of("c", {1: 5 * UNIT, 4: UNIT})]):
        with pytest.raises(TimeoutError):
            table.acquire([made_of("e", {6: 5 * UNIT})], timeout_s=0)
        assert table.stats().resident == ("b", "d", "c")
        assert table.stats().pinned_bytes == 6 * UNIT
    table.acquire([made_of("e", {6: 5 * UNIT})]).release()
    assert table.stats().resident == ("e",)


sizes = st.lists(st.integers(0, 3 * LENT_BYTES), min_size=1, max_size=12)


def index_of(sizes: list[int], contents: list[int]) -> WeightsIndex:
    entries, offset = [], 0
    for k, (size, content) in enumerate(zip(sizes, contents, strict=True)):
        entries.append(WeightEntry(str(k), "uint8", (size,), offset, size, f"{content} {size}"))
        offset += size + -size % 64
    return WeightsIndex(tuple(entries), PAGE_BYTES, PAGE_BYTES + offset)


@given(sizes)
def test_spans_tile_a_file_and_hold_the_same_tensors(sizes: list[int]) -> None:
    """Each page is in one span, and every tensor on the spans that it touches."""
    index = index_of(sizes, [*range(len(sizes))])
    layout = page_layout(index, PAGE_BYTES)
    assert layout.bytes == -(-index.file_bytes // PAGE_BYTES) * PAGE_BYTES
    tensors_on: dict[int, set[int]] = {}
    for k, entry in enumerate(index.entries):
        begin = index.data_offset + entry.offset
        for page in range(begin // PAGE_BYTES, -(-(begin + entry.nbytes) // PAGE_BYTES)):
            if entry.nbytes:
                tensors_on.setdefault(page, set()).add(k)
    for span, begin in enumerate(layout.cuts[:-1]):
        on_span = {k for k, spans in enumerate(layout.tensors) if span in spans}
        for page in range(begin // PAGE_BYTES, layout.cuts[span + 1] // PAGE_BYTES):
            assert on_span == tensors_on.get(page, set())
    everything = layout.needed(())
    assert [(0, layout.bytes)] == [*layout.runs(everything)]
    assert layout.bytes == layout.bytes_of(everything)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(
                st.tuples(st.integers(0, 5), sizes.map(lambda s: s[0])), min_size=1, max_size=6
            ),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_a_tensor_is_where_it_is_said_to_be(
    functions: list[tuple[list[tuple[int, int]], bool]],
) -> None:
    """Same bytes, held by who counts on it, and large ones in one place."""
    shares = Shares()
    placements = {}
    for k, (tensors, is_dropped) in enumerate(functions):
        index = index_of([size for _, size in tensors], [content for content, _ in tensors])
        placement = shares.place(str(k), index, page_layout(index, PAGE_BYTES))
        shares.check_integrity()
        for tensor, found in placement.lent.items():
            theirs, ours = found.backing.entries[found.tensor], index.entries[tensor]
            assert (theirs.sha256, theirs.shape) == (ours.sha256, ours.shape)
            spans = found.backing.layout.tensors[found.tensor]
            assert all(str(k) in found.backing.holders[span] for span in spans)
        placements[str(k)] = placement
        if is_dropped:
            shares.drop(str(k // 2 if str(k // 2) in placements else k))
            placements.pop(str(k // 2 if str(k // 2) in placements else k))
            shares.check_integrity()
    for key in placements:
        shares.drop(key)
    assert shares.bytes == 0
    shares.check_integrity()


def test_weights_that_cannot_be_shared_are_one_span() -> None:
    """Two functions of one content, on such a device, take it twice."""
    shares = Shares()
    index = index_of([5 * UNIT], [1])
    for key in ("a", "b"):
        assert shares.place(key, index, whole(5 * UNIT)).lent == {}
    assert (shares.bytes, shares.shared_bytes) == (10 * UNIT, 0)
