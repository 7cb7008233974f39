"""Where weights should be, as the store keeps it."""

from __future__ import annotations

import pytest

from contract import keys
from contract.errors import RequestError, UnknownFunction
from contract.function import FunctionRef
from contract.store import Store
from contract.store.wanted import Place, Wanted
from tests.unit.gateway.manifests import MANIFEST

F = FunctionRef("f")


def publish(store: Store, name: str = "f") -> None:
    """Deploy the next version."""
    store.functions.publish(name, "b" * 64, MANIFEST)


def test_a_want_is_of_the_version_that_its_name_means_then(store: Store) -> None:
    """A later version is not loaded by it; the numbers of wants rise."""
    publish(store)
    first = store.wanted.want(F, Place.LOADED)
    publish(store)
    second = store.wanted.want(F, Place.LOADED)
    assert (first.ref, second.ref) == (FunctionRef("f", 1), FunctionRef("f", 2))
    assert second.number > first.number
    assert {first, second} == set(store.wanted.all())


def test_a_newer_want_replaces_the_older_one(store: Store) -> None:
    """One for each version."""
    publish(store)
    store.wanted.want(F, Place.LOADED)
    newer = store.wanted.want(FunctionRef("f", 1), Place.UNLOADED)
    assert [newer] == store.wanted.all()


def test_a_want_is_taken_back_unless_a_newer_one_came(store: Store) -> None:
    """By its number."""
    publish(store)
    older = store.wanted.want(F, Place.LOADED)
    newer = store.wanted.want(F, Place.LOADED)
    store.wanted.withdraw(older)
    assert [newer] == store.wanted.all()
    store.wanted.withdraw(newer)
    assert store.wanted.all() == []


@pytest.mark.parametrize("ref", [FunctionRef("g"), FunctionRef("f", 2)])
def test_what_is_not_deployed_cannot_be_wanted(store: Store, ref: FunctionRef) -> None:
    """Nothing is noted."""
    publish(store)
    with pytest.raises(UnknownFunction):
        store.wanted.want(ref, Place.LOADED)
    assert store.wanted.all() == []


def test_removed_versions_are_wanted_no_more(store: Store) -> None:
    """In the move that retires them."""
    publish(store)
    publish(store)
    kept = store.wanted.want(F, Place.LOADED)
    store.wanted.want(FunctionRef("f", 1), Place.LOADED)
    store.functions.retire(FunctionRef("f", 1))
    assert [kept] == store.wanted.all()


def test_old_unloads_are_forgotten_and_loads_are_not(store: Store) -> None:
    """Workers that beat have read them long ago; here at once."""
    wanted = Wanted(store.server, remembered_s=-1)
    for name in "fgh":
        publish(store, name)
    loaded = wanted.want(F, Place.LOADED)
    wanted.want(FunctionRef("g"), Place.UNLOADED)
    later = wanted.want(FunctionRef("h"), Place.UNLOADED)
    assert {loaded, later} == set(wanted.all())


def test_wants_are_bounded(store: Store) -> None:
    """Those that exist may be replaced; another version is refused."""
    wanted = Wanted(store.server, most=1)
    publish(store)
    publish(store, "g")
    wanted.want(F, Place.LOADED)
    wanted.want(F, Place.UNLOADED)
    with pytest.raises(RequestError, match="unload some"):
        wanted.want(FunctionRef("g"), Place.LOADED)
    assert store.server.redis.hlen(keys.WANTED) == 1


def test_all_versions_of_all_functions_are_listed(store: Store) -> None:
    """By name, oldest first; removed ones are not there."""
    for name in "gff":
        publish(store, name)
    assert store.functions.numbers() == {"f": [1, 2], "g": [1]}
    store.functions.retire(FunctionRef("f", 1))
    assert store.functions.numbers() == {"f": [2], "g": [1]}
