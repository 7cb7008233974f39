"""Aliases of a function: listed, shown, made or moved, moved back, removed."""

from __future__ import annotations

from typing import Any

import orjson

from contract.aliases import Alias, check_name, make_alias
from contract.errors import InvalidInput, MalformedBody, UnknownFunction
from contract.function import FunctionRef
from contract.log import Log
from gateway.answer import Answer, json_answer
from gateway.context import Gateway

log = Log("gateway")
MAX_BODY_BYTES = 16_384


def show_all(gateway: Gateway, name: str) -> Answer:
    """GET /v1/functions/<name>/aliases: every alias of the function, by name."""
    function = _name(name)
    found = gateway.store.aliases.of(function)
    return json_answer({"aliases": [record(function, alias) for alias in found.values()]})


def show(gateway: Gateway, name: str, alias: str) -> Answer:
    """GET /v1/functions/<name>/aliases/<alias>."""
    function = _name(name)
    return json_answer(record(function, gateway.store.aliases.get(function, check_name(alias))))


def put(gateway: Gateway, name: str, alias: str, body: bytes) -> Answer:
    """PUT /v1/functions/<name>/aliases/<alias>: make it, or move it."""
    function = _name(name)
    made = make_alias(alias, _versions(body))
    return _moved(gateway, function, gateway.store.aliases.put(function, made))


def roll_back(gateway: Gateway, name: str, alias: str) -> Answer:
    """POST /v1/functions/<name>/aliases/<alias>/rollback: to what it pointed at before."""
    function = _name(name)
    moved = gateway.store.aliases.rollback(function, check_name(alias))
    return _moved(gateway, function, moved)


def remove(gateway: Gateway, name: str, alias: str) -> Answer:
    """DELETE /v1/functions/<name>/aliases/<alias>: its versions stay."""
    function = _name(name)
    removed = gateway.store.aliases.remove(function, check_name(alias))
    gateway.lookup.forget(FunctionRef(function, 0, alias))
    log.info("alias_removed", function=function, alias=alias)
    return json_answer(record(function, removed))


def record(function: str, alias: Alias) -> dict[str, Any]:
    """An alias as JSON shows it; versions are keys, so they are text."""
    return {
        "function": function,
        "alias": alias.name,
        "versions": weights(alias),
        "before": [{str(version): weight for version, weight in was} for was in alias.before],
    }


def weights(alias: Alias) -> dict[str, int]:
    """Weights by version."""
    return {str(version): weight for version, weight in alias.versions}


def _moved(gateway: Gateway, function: str, alias: Alias) -> Answer:
    gateway.lookup.forget(FunctionRef(function, 0, alias.name))
    log.info("alias_moved", function=function, alias=alias.name, versions=alias.text)
    return json_answer(record(function, alias))


def _name(text: str) -> str:
    """The name of a function, without version or alias."""
    ref = FunctionRef.parse(text)
    if not ref.is_latest:
        raise UnknownFunction(f"function: expected NAME, got {text[:100]!r}")
    return ref.name


def _versions(body: bytes) -> tuple[tuple[int, int], ...]:
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"body: not JSON ({error})") from error
    if not isinstance(wish, dict) or wish.keys() != {"versions"}:
        raise InvalidInput.of("body", "an object with `versions` alone", repr(wish)[:100])
    versions = wish["versions"]
    if not isinstance(versions, dict):
        raise InvalidInput.of("versions", "weights by version", repr(versions)[:100])
    return tuple((_number(text), _weight(text, weight)) for text, weight in versions.items())


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and text[0] != "0"):
        raise InvalidInput.of("versions", "numbers of versions", repr(text[:100]))
    return int(text)


def _weight(version: str, weight: Any) -> int:
    if isinstance(weight, bool) or not isinstance(weight, int):
        raise InvalidInput.of(f"versions.{version}", "a whole number", repr(weight)[:100])
    return weight
