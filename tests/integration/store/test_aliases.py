"""Aliases in the store: each move is one, and acceptance is held against them."""

from __future__ import annotations

import pytest

from contract.aliases import MAX_ALIASES, MAX_BEFORE, Alias
from contract.errors import AliasInUse, InvalidInput, UnknownAlias, UnknownFunction
from contract.function import FunctionRef
from contract.origin import Origin
from contract.store import Store
from contract.store.jobs import StaleVersion
from tests.integration.store.builders import a_submission, deploy

ONE, TWO = Alias("prod", ((1, 1),)), Alias("prod", ((2, 1),))
BOTH = Alias("prod", ((1, 90), (2, 10)))


def test_an_alias_is_made_moved_and_moved_back(store: Store) -> None:
    """What it pointed at before is remembered, the latest first; a rollback takes it back."""
    deploy(store)
    deploy(store)
    assert store.aliases.put("echo", ONE).before == ()
    store.aliases.put("echo", BOTH)
    moved = store.aliases.put("echo", TWO)
    assert (moved, moved.before) == (TWO, (BOTH.versions, ONE.versions))
    assert store.aliases.put("echo", TWO).before == moved.before
    assert store.aliases.of("echo") == {"prod": TWO}
    assert store.aliases.rollback("echo", "prod") == BOTH
    assert store.aliases.rollback("echo", "prod") == ONE
    with pytest.raises(InvalidInput):
        store.aliases.rollback("echo", "prod")
    assert store.aliases.remove("echo", "prod") == ONE
    assert store.aliases.of("echo") == {}


def test_what_does_not_exist_is_named(store: Store) -> None:
    """Functions, versions and aliases."""
    with pytest.raises(UnknownFunction):
        store.aliases.of("echo")
    with pytest.raises(UnknownFunction):
        store.aliases.put("echo", ONE)
    deploy(store)
    with pytest.raises(UnknownFunction, match="echo@2"):
        store.aliases.put("echo", BOTH)
    for move in (store.aliases.get, store.aliases.remove, store.aliases.rollback):
        with pytest.raises(UnknownAlias, match="nobody"):
            move("echo", "nobody")
    with pytest.raises(UnknownAlias):
        store.functions.get(FunctionRef("echo", 0, "nobody"))


def test_a_rollback_to_a_removed_version_fails(store: Store) -> None:
    """And leaves the alias where it is."""
    deploy(store)
    deploy(store)
    store.aliases.put("echo", ONE)
    store.aliases.put("echo", TWO)
    store.functions.retire(FunctionRef("echo", 1))
    with pytest.raises(UnknownFunction, match="echo@1"):
        store.aliases.rollback("echo", "prod")
    assert store.aliases.get("echo", "prod") == TWO


def test_aliases_and_what_they_remember_are_bounded(store: Store) -> None:
    """A function is one hash that calls read from."""
    deploy(store)
    deploy(store)
    for k in range(2 * MAX_BEFORE):
        alias = store.aliases.put("echo", Alias("prod", ((1 + k % 2, 1 + k),)))
    assert len(alias.before) == MAX_BEFORE
    for k in range(1, MAX_ALIASES):
        store.aliases.put("echo", Alias(f"a{k}", ((1, 1),)))
    with pytest.raises(InvalidInput, match="32"):
        store.aliases.put("echo", Alias("more", ((1, 1),)))
    store.aliases.put("echo", ONE)


def test_a_version_that_an_alias_points_to_stays(store: Store) -> None:
    """Until the alias is moved; the whole function goes with its aliases."""
    deploy(store)
    deploy(store)
    store.aliases.put("echo", BOTH)
    with pytest.raises(AliasInUse, match="prod") as raised:
        store.functions.retire(FunctionRef("echo", 1))
    assert raised.value.extensions["alias"] == "prod"
    assert store.functions.versions("echo") == [1, 2]
    store.aliases.put("echo", TWO)
    assert store.functions.retire(FunctionRef("echo", 1)) == [1]
    assert store.functions.retire(FunctionRef("echo")) == [2]
    deploy(store)
    assert store.aliases.of("echo") == {}


def test_a_call_by_alias_is_accepted_for_what_it_names_then(store: Store) -> None:
    """Neither for the latest nor for what it named before."""
    first, second = deploy(store), deploy(store)
    by_prod = Origin(alias="prod")
    calls = [
        a_submission(function, is_latest=False)._replace(origin=by_prod)
        for function in (first, second)
    ]
    refused = store.jobs.submit(calls, 100, 100)
    assert [type(reason) for reason in refused] == [StaleVersion, StaleVersion]
    store.aliases.put("echo", ONE)
    accepted, refusal = store.jobs.submit(calls, 100, 100)
    assert (accepted, type(refusal)) == (None, StaleVersion)
    store.aliases.put("echo", BOTH)
    again = a_submission(second, is_latest=False)._replace(origin=by_prod)
    assert store.jobs.submit([again], 100, 100) == [None]
    job = store.jobs.get(again.spec.id)
    assert (job.origin.alias, job.spec.version) == ("prod", 2)


def test_an_alias_means_its_heaviest_version_where_nobody_calls(store: Store) -> None:
    """As when it is described."""
    deploy(store)
    deploy(store)
    store.aliases.put("echo", BOTH)
    assert store.functions.get(FunctionRef("echo", 0, "prod")).version == 1
    assert store.aliases.of_all(["echo", "gone"]) == {"echo": {"prod": BOTH}, "gone": {}}
