"""Swapping through an arena, on a backend whose copies run only when somebody waits for them."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from fusion.errors import BudgetExceeded, WeightsError
from fusion.swapping import reading
from tests.unit.fusion_swapping.shared import MIB, check, dropped, opened, plain, sibling, stored


@pytest.mark.parametrize("is_verified", [True, False])
@pytest.mark.parametrize("host_mib", [0, 4, 64])
def test_weights_are_right_however_often_they_are_swapped(
    tmp_path: Path, host_mib: int, is_verified: bool
) -> None:
    """From the disk, from the page cache and from pinned memory; nothing is taken after the first.

    Copies run when they are waited for: a source that was given to another too early, or a place
    that was read before its mark, shows.
    """
    models = {f"f{k}": plain(k, 1 + k) for k in range(4)}
    requests = [stored(tmp_path, key, model, is_verified) for key, model in models.items()]
    table, loader, copies = opened(6 * MIB, host_mib * MIB)
    for request in requests:
        with dropped(request.path), table.acquire([request]) as lease:
            check(lease, request.key, models[request.key])
    taken = len(copies.device_taken), len(copies.host_taken)
    for _ in range(3):
        for request in requests:
            with table.acquire([request]) as lease:
                check(lease, request.key, models[request.key])
            table.check_integrity()
            loader.host.check_integrity()
    assert table.stats().evictions >= 8
    assert (len(copies.device_taken), len(copies.host_taken)) == taken
    assert copies.device_taken == [loader.arena_bytes]
    # uses of whoever lay there were waited for by the copies, never by the host
    assert copies.held_back >= 8
    hosted = {request.key for request in requests if loader.host_share(request.path)}
    assert len(hosted) == {0: 0, 4: 1, 64: 4}[host_mib]


def test_pinned_copies_are_copied_without_the_host_waiting(tmp_path: Path) -> None:
    """From the second load on nothing is read, and nothing waited for."""
    table, _loader, copies = opened(4 * MIB, 64 * MIB)
    requests = [stored(tmp_path, f"f{k}", plain(k), True) for k in range(2)]
    for request in requests:
        table.acquire([request]).release()
    for request in requests:
        request.path.unlink()
    waits = copies.host_waits
    for k, request in enumerate(requests):
        with table.acquire([request]) as lease:
            check(lease, request.key, plain(k))
    assert copies.host_waits == waits


def test_a_slot_has_its_views_once(tmp_path: Path) -> None:
    """Another function of the architecture in the same place is read through the same tensors."""
    table, _, _ = opened(4 * MIB, 64 * MIB)
    first, second = (stored(tmp_path, f"f{k}", plain(k), True) for k in range(2))
    with table.acquire([first]) as lease:
        before = [id(tensor) for tensor in lease.tensors("f0")]
        lent = lease.tensors("f0")
    with table.acquire([second]) as lease:
        assert before == [id(tensor) for tensor in lease.tensors("f1")]
        check(lease, "f1", plain(1))
    del lent


def test_functions_of_one_architecture_lie_at_equal_distances(tmp_path: Path) -> None:
    """As stacks of them want it; also after others came and went."""
    table, _, _ = opened(32 * MIB, 64 * MIB)
    requests = [stored(tmp_path, f"f{k}", plain(k), True) for k in range(4)]
    for request in requests:
        table.acquire([request]).release()
    assert table.evict("f1")
    table.acquire([requests[1]]).release()
    with table.acquire(requests) as lease:
        begins = sorted(lease.tensors(request.key)[0].data_ptr() for request in requests)
        for k, request in enumerate(requests):
            check(lease, request.key, plain(k))
    assert len({b - a for a, b in pairwise(begins)}) == 1


def test_a_load_that_fails_gives_everything_back(tmp_path: Path) -> None:
    """A wrong digest, a missing file and a device that fails: neither places nor pages stay."""
    for host_mib in (0, 64):
        table, loader, copies = opened(16 * MIB, host_mib * MIB)
        good = stored(tmp_path, "good", plain(1), True)
        bad = stored(tmp_path, "bad", plain(2), False)
        content = bytearray(bad.path.read_bytes())
        content[-1] ^= 1
        bad.path.write_bytes(content)
        gone = stored(tmp_path, "gone", plain(3), True)
        gone.path.unlink()
        for request, why in ((bad, "sha256"), (gone, "cannot be read")):
            with pytest.raises(WeightsError, match=why):
                table.acquire([request])
        copies.fails_after = copies.queued + 1
        with pytest.raises(RuntimeError, match="gone"):
            table.acquire([stored(tmp_path, "long", plain(4, 12), True)])
        copies.fails_after = None
        assert (table.stats().used_bytes, loader.host.bytes) == (0, 0)
        with table.acquire([good]) as lease:
            check(lease, "good", plain(1))
        table.check_integrity()
        loader.host.check_integrity()


def test_siblings_are_once_on_the_device_and_once_on_the_host(tmp_path: Path) -> None:
    """Four take little more than one, in any order of coming and going."""
    table, loader, copies = opened(64 * MIB, 64 * MIB)
    requests = [stored(tmp_path, f"s{k}", sibling(k), True) for k in range(4)]
    table.acquire(requests[:1]).release()
    alone, hosted = table.stats().resident_bytes, loader.host.bytes
    for request in requests[1:]:
        table.acquire([request]).release()
    assert table.stats().resident_bytes < 1.4 * alone
    # a page of it each, and what lies on the same page
    assert loader.host.bytes < hosted + 3 * 3 * MIB
    read_bytes = copies.copied_bytes
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        for k in order:
            assert table.evict(f"s{k}")
            with table.acquire(requests) as lease:
                for number, request in enumerate(requests):
                    check(lease, request.key, sibling(number))
            table.check_integrity()
            loader.host.check_integrity()
    # a head comes back, the backbone stays
    assert copies.copied_bytes - read_bytes < 8 * 1.5 * MIB
    for request in requests:
        assert table.evict(request.key)
    assert table.stats().used_bytes == 0


def test_siblings_that_load_at_once_wait_for_each_other_alone(tmp_path: Path) -> None:
    """Eight groups from eight threads; the backbone is read by one of them."""
    table, loader, copies = opened(64 * MIB, 64 * MIB)
    requests = [stored(tmp_path, f"s{k}", sibling(k), True) for k in range(8)]
    problems: list[BaseException] = []
    ended = []

    def work(k: int) -> None:
        try:
            with table.acquire([requests[k], requests[(k + 3) % 8]]) as lease:
                check(lease, f"s{k}", sibling(k))
        except BaseException as error:  # noqa: BLE001  # shown by the test
            problems.append(error)
        ended.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(ended), problems) == (8, [])
    table.check_integrity()
    loader.host.check_integrity()
    assert copies.queued == copies.done


def test_a_group_fits_though_its_own_members_lie_in_the_way(tmp_path: Path) -> None:
    """One that is resident in the middle is loaded again; with others that hold, it waits."""
    table, _, _ = opened(10 * MIB, 64 * MIB)
    small = [stored(tmp_path, f"f{k}", plain(k, 2), True) for k in range(3)]
    for request in small:
        table.acquire([request]).release()
    large = stored(tmp_path, "large", plain(9, 6), True)
    assert table.evict("f0")
    # f1 lies from 2 to 4 of 10 MiB: 7 MiB adjoin nowhere beside it
    with table.acquire([small[1], large]) as lease:
        check(lease, "f1", plain(1, 2))
        check(lease, "large", plain(9, 6))
        with pytest.raises(TimeoutError):
            table.acquire([small[0]], timeout_s=0)
    table.check_integrity()


def test_the_arena_is_for_weights_and_the_rest_for_all_else(tmp_path: Path) -> None:
    """Neither lends to the other, and what can never fit is refused at once."""
    table, _, _ = opened(8 * MIB, 0, beside_bytes=2 * MIB)
    fits, other = (stored(tmp_path, f"f{k}", plain(k), True) for k in range(2))
    with table.acquire([fits], 2 * MIB) as lease:
        check(lease, "f0", plain(0))
        with pytest.raises(TimeoutError):
            table.acquire([other], 1, timeout_s=0)
    with pytest.raises(BudgetExceeded, match="beside weights"):
        table.acquire([fits], 3 * MIB)
    with pytest.raises(BudgetExceeded, match="large"):
        table.acquire([stored(tmp_path, "large", plain(3, 8), True)])
    assert table.stats().resident == ("f0",)
    table.charge(2 * MIB)
    with pytest.raises(BudgetExceeded):
        table.charge(1)
    table.check_integrity()


def test_marks_tell_what_has_arrived(tmp_path: Path) -> None:
    """The first part can be waited for without the rest."""
    table, _loader, _copies = opened(64 * MIB, 64 * MIB)
    request = stored(tmp_path, "f0", plain(0, 40), True)
    with table.acquire([request]) as lease:
        weights = lease.slots["f0"].weights
        assert weights is not None
        ends = [end for end, _ in weights.marks]
        assert ends == sorted(ends)
        assert len(ends) >= 5
        assert ends[-1] == request.index.data_bytes
        assert weights.is_arriving
        weights.wait_for(weights.marks[0][1])
        assert weights.is_arriving
        kernel, expected = weights.tensors[0], plain(0, 40)["kernel"]
        rows = ends[0] // MIB
        assert torch.equal(kernel[:rows], expected[:rows])
        assert not torch.equal(kernel[-1], expected[-1])
        check(lease, "f0", plain(0, 40))
        assert not weights.is_arriving


def test_chunks_are_used_again_as_their_copies_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file larger than all chunks, without room on the host; two loads one after another."""
    monkeypatch.setattr(reading, "STAGED", 2)
    table, _, copies = opened(64 * MIB, 0)
    for k in range(2):
        request = stored(tmp_path, f"f{k}", plain(k, 25), True)
        with table.acquire([request]) as lease:
            check(lease, request.key, plain(k, 25))
    assert copies.host_taken == [2 * reading.CHUNK_BYTES]


def test_copies_count_in_what_bringing_a_function_back_takes(tmp_path: Path) -> None:
    """The load returns when they are queued; what they took is known at a release, once."""
    table, _, copies = opened(16 * MIB, 64 * MIB)
    copies.copy_s = 3.0
    request = stored(tmp_path, "f0", plain(0), True)
    with table.acquire([request]):
        pass
    assert table.pasts(1)["f0"].reload_s < 3.0  # nobody has waited for them yet
    for _ in range(2):
        with table.acquire([request]) as lease:
            check(lease, "f0", plain(0))
        assert table.pasts(1)["f0"].reload_s == 3.0 * copies.done


def test_pinned_pages_are_read_into_again_once_they_are_copied(tmp_path: Path) -> None:
    """A copy that is still queued when its file leaves the host finds its own bytes."""
    table, _, _ = opened(16 * MIB, 4 * MIB)
    requests = [stored(tmp_path, f"f{k}", plain(k), True) for k in range(2)]
    for request in requests:
        table.acquire([request]).release()  # nobody waits for the copies
    with table.acquire(requests) as lease:
        for k, request in enumerate(requests):
            check(lease, request.key, plain(k))
