"""Files are mapped at equal distances, and addresses never hold two."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.loaders import MappedLoader
from fusion.places import MOST_PLACES, PAGE_BYTES, RANGE_BYTES, Mapped, Places
from fusion.slots import SlotRequest, SlotTable
from fusion.stacking.strided import strided
from fusion.weights import write_weights


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Of two sizes in pages, each with bytes of its own."""
    folder = tmp_path_factory.mktemp("files")
    found = []
    for k in range(12):
        path = folder / str(k)
        path.write_bytes(bytes([k]) * (100 if k % 2 else PAGE_BYTES + 1))
        found.append(path)
    return found


def _map(places: Places, path: Path) -> Mapped:
    with path.open("rb") as file:
        return places.map(file.fileno(), path.stat().st_size)


def test_files_of_a_size_lie_side_by_side(files: list[Path]) -> None:
    """Whatever else is mapped in between."""
    places = Places()
    mapped = [_map(places, path) for path in files]
    for parity, place_bytes in ((0, 2 * PAGE_BYTES), (1, PAGE_BYTES)):
        addresses = [each.data.data_ptr() for each in mapped[parity::2]]
        assert {place_bytes} == {b - a for a, b in itertools.pairwise(addresses)}
    assert all(each.close() for each in mapped)


def test_more_files_than_places_begin_another_range(files: list[Path]) -> None:
    """All of them are readable."""
    places = Places()
    mapped = [_map(places, files[1]) for _ in range(MOST_PLACES + 3)]
    assert len({each.data.data_ptr() for each in mapped}) == len(mapped)
    assert all(int(each.data.sum()) == 100 for each in mapped)
    assert all(each.close() for each in mapped)


def test_a_file_larger_than_a_range_has_one_of_its_own(tmp_path: Path) -> None:
    """Addresses are reserved, not memory: pages of a hole are the page cache's one by one."""
    path = tmp_path / "hole"
    with path.open("wb") as file:
        file.truncate(PAGE_BYTES)
    places = Places()
    range_, number = places._take(RANGE_BYTES + PAGE_BYTES)
    assert number == 0
    assert not range_.free


def test_what_cannot_be_mapped_takes_no_place(tmp_path: Path, files: list[Path]) -> None:
    """The next file gets it."""
    places = Places()
    with pytest.raises(OSError, match="Bad file descriptor"):
        places.map(-1, 100)
    first, second = _map(places, files[1]), _map(places, files[3])
    assert second.data.data_ptr() - first.data.data_ptr() == PAGE_BYTES


def test_slots_of_equal_functions_stack(tmp_path: Path) -> None:
    """Every weight of three functions in one slot table is one view, also after an eviction."""
    requests, models = [], []
    for k in range(4):
        path = tmp_path / f"{k}.safetensors"
        models.append({"w": torch.randn(5, 7), "ids": torch.arange(k, k + 3)})
        requests.append(SlotRequest(str(k), path, write_weights(path, models[-1])))
    table = SlotTable(MappedLoader(), 2**20)
    table.acquire(requests[:3]).release()
    assert table.evict("1")
    with table.acquire([requests[0], requests[3], requests[2]]) as lease:
        held = [lease.tensors(key) for key in "032"]
        for tensors, name in zip(zip(*held, strict=True), ("w", "ids"), strict=True):
            view = strided(tensors)
            assert view is not None
            assert torch.equal(view, torch.stack([models[k][name] for k in (0, 3, 2)]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=30))
def test_any_order_of_maps_and_closes(files: list[Path], steps: list[tuple[int, bool]]) -> None:
    """What is mapped is read right; a place is taken again only when nobody holds a view of it."""
    places = Places()
    mapped: dict[int, Mapped] = {}
    held: dict[int, tuple[Mapped, torch.Tensor]] = {}
    for k, is_held in steps:
        if k in held:
            one = held.pop(k)[0]
            assert one.close()
        elif k not in mapped:
            mapped[k] = _map(places, files[k])
        elif is_held:
            one = mapped.pop(k)
            held[k] = one, one.data[:1]
            assert not one.close()
        else:
            assert mapped.pop(k).close()
        assert all(_bytes_of(one) == {other} for other, one in mapped.items())
        assert all(int(view[0]) == other for other, (_, view) in held.items())


def _bytes_of(mapped: Mapped) -> set[int]:
    return {int(mapped.data.min()), int(mapped.data.max())}
