"""Aliases with weighted versions, as the Lambda API has them.

There a version has a share from 0 to 1 of an alias's calls, and the main one what is left; here
every version has a whole number for its weight.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from contract.aliases import MAX_WEIGHT, Alias, make_alias
from contract.errors import FuseboxError, UnknownAlias
from contract.function import FunctionRef
from gateway.answer import Answer, json_answer
from gateway.aws.bodies import read_members
from gateway.aws.configurations import paged
from gateway.aws.errors import AwsError, invalid
from gateway.aws.names import LATEST, arn_of, unqualified
from gateway.context import Gateway

_MEMBERS = {
    "Name": str,
    "FunctionVersion": str,
    "Description": str,
    "RoutingConfig": dict,
    "RevisionId": str,
}


def create(gateway: Gateway, name: str, body: bytes) -> Answer:
    """POST .../aliases: makes one that is not there yet."""
    function, members = unqualified(name), read_members(body, _MEMBERS)
    alias = _wanted(members, str(members.get("Name", "")), "", {})
    if alias.name in gateway.store.aliases.of(function):
        raise AwsError(
            "ResourceConflictException",
            409,
            f"Alias already exists: {arn_of(function, alias.name)}",
        )
    return json_answer(_put(gateway, function, alias), 201)


def show_all(gateway: Gateway, name: str, query: Mapping[str, str]) -> Answer:
    """GET .../aliases, of one version with FunctionVersion."""
    function, version = unqualified(name), query.get("FunctionVersion", "")
    entries = [
        ((alias.name, 0), _record(function, alias))
        for _, alias in sorted(gateway.store.aliases.of(function).items())
        if not version or version in {str(number) for number, _ in alias.versions}
    ]
    return paged("Aliases", entries, query)


def show(gateway: Gateway, name: str, alias: str) -> Answer:
    """GET .../aliases/<alias>."""
    function = unqualified(name)
    return json_answer(_record(function, _found(gateway, function, alias)))


def update(gateway: Gateway, name: str, alias: str, body: bytes) -> Answer:
    """PUT .../aliases/<alias>: moves it; what is not said stays."""
    function, members = unqualified(name), read_members(body, _MEMBERS)
    before = _found(gateway, function, alias)
    revision = members.get("RevisionId", "")
    if revision and revision != _revision(before):
        text = f"RevisionId: the alias has moved since, it is {_revision(before)} now"
        raise AwsError("PreconditionFailedException", 412, text)
    record = _record(function, before)
    wanted = _wanted(members, alias, record["FunctionVersion"], record.get("RoutingConfig", {}))
    return json_answer(_put(gateway, function, wanted))


def remove(gateway: Gateway, name: str, alias: str) -> Answer:
    """DELETE .../aliases/<alias>: what is not there is gone too."""
    function = unqualified(name)
    gateway.store.aliases.of(function)
    with suppress(UnknownAlias):
        gateway.store.aliases.remove(function, alias)
    gateway.lookup.forget(FunctionRef(function, 0, alias))
    return Answer(b"", 204)


def _found(gateway: Gateway, function: str, name: str) -> Alias:
    alias = gateway.store.aliases.of(function).get(name)
    if alias is None:
        text = f"Alias not found: {arn_of(function, name[:128])}"
        raise AwsError("ResourceNotFoundException", 404, text)
    return alias


def _wanted(
    members: Mapping[str, Any], name: str, version: str, routing: Mapping[str, Any]
) -> Alias:
    main = _number("FunctionVersion", members.get("FunctionVersion", version))
    weights = members.get("RoutingConfig", routing).get("AdditionalVersionWeights") or {}
    if not isinstance(weights, dict):
        raise invalid("RoutingConfig.AdditionalVersionWeights", "an object", repr(weights)[:100])
    if not weights:
        return _made(name, ((main, 1),))
    if len(weights) > 1:
        expected = "one version beside FunctionVersion"
        raise invalid("RoutingConfig.AdditionalVersionWeights", expected, f"{len(weights)}")
    [(other, share)] = weights.items()
    field = f"RoutingConfig.AdditionalVersionWeights.{str(other)[:20]}"
    weight = 0
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < 1:
        weight = round(share * MAX_WEIGHT)
    if not 0 < weight < MAX_WEIGHT:
        expected = f"a share of the calls, in steps of 1/{MAX_WEIGHT}, between 0 and 1"
        raise invalid(field, expected, repr(share)[:100])
    return _made(name, ((main, MAX_WEIGHT - weight), (_number(field, other), weight)))


def _made(name: str, versions: tuple[tuple[int, int], ...]) -> Alias:
    try:
        return make_alias(name, versions)
    except FuseboxError as error:
        raise AwsError("InvalidParameterValueException", 400, error.detail) from error


def _number(field: str, text: Any) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10):
        expected = f"the number of a version; an alias of {LATEST} would be the name itself"
        raise invalid(field, expected, repr(text)[:100])
    return int(text)


def _put(gateway: Gateway, function: str, alias: Alias) -> dict[str, Any]:
    gateway.store.aliases.put(function, alias)
    gateway.lookup.forget(FunctionRef(function, 0, alias.name))
    return _record(function, alias)


def _record(function: str, alias: Alias) -> dict[str, Any]:
    (main, _), *others = alias.versions
    total = sum(weight for _, weight in alias.versions)
    record: dict[str, Any] = {
        "AliasArn": arn_of(function, alias.name),
        "Name": alias.name,
        "FunctionVersion": str(main),
        "Description": "",
        "RevisionId": _revision(alias),
    }
    if others:
        shares = {str(version): weight / total for version, weight in others}
        record["RoutingConfig"] = {"AdditionalVersionWeights": shares}
    return record


def _revision(alias: Alias) -> str:
    """Of what the alias means now: the same again once it means the same."""
    digest = hashlib.sha256(f"{alias.name}={alias.text}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16]))
