"""Functions and their versions, as the Lambda API describes them."""

from __future__ import annotations

import base64
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from contract.errors import UnknownFunction
from contract.function import Function, FunctionRef
from gateway.answer import Answer, json_answer
from gateway.aws.errors import invalid
from gateway.aws.names import LATEST, arn_of, parse_name, unqualified
from gateway.budgets import whole_bytes
from gateway.context import Gateway
from gateway.functions import remove as retire

Record = dict[str, Any]
# what records are in order of: a name and a version's number
Key = tuple[str, int]
Entry = tuple[Key, Record]
# how many one page shows, whatever was asked for; as AWS has it
PAGE, MOST_ITEMS = 50, 10_000
_MIB = 2**20


def configuration(function: Function, qualifier: str = "") -> Record:
    """A version as `FunctionConfiguration`; by `qualifier` where it was asked for by one."""
    manifest = function.manifest
    moment = datetime.fromtimestamp(function.created_at_s, UTC)
    digest = bytes.fromhex(function.digest)
    return {
        "FunctionName": function.name,
        "FunctionArn": arn_of(function.name, qualifier),
        "Role": "",
        "Handler": "handler.py" if manifest.has_hooks or manifest.is_eager else "graph.json",
        "CodeSize": manifest.weight_bytes,
        "Description": "",
        "Timeout": math.ceil(manifest.timeout_ms / 1000),
        "MemorySize": math.ceil(whole_bytes(manifest) / _MIB),
        "LastModified": moment.isoformat(timespec="milliseconds").replace("+00:00", "+0000"),
        "CodeSha256": base64.b64encode(digest).decode(),
        "Version": qualifier if qualifier == LATEST else str(function.version),
        "RevisionId": str(uuid.UUID(bytes=digest[:16])),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
    }


def show_configuration(gateway: Gateway, name: str, qualifier: str) -> Answer:
    """GET .../functions/<name>/configuration."""
    return json_answer(_found(gateway, parse_name(name, qualifier)))


def show(gateway: Gateway, name: str, qualifier: str) -> Answer:
    """GET .../functions/<name>: with where its artifact is."""
    ref = parse_name(name, qualifier)
    function = gateway.store.functions.get(ref)
    code = {"RepositoryType": "fusebox", "Location": f"/v1/artifacts/{function.digest}.tar"}
    return json_answer({"Configuration": _shown(function, ref), "Code": code, "Tags": {}})


def show_all(gateway: Gateway, query: Mapping[str, str]) -> Answer:
    """GET .../functions: the latest version of each, or with FunctionVersion=ALL every one."""
    wanted = query.get("FunctionVersion", "")
    if wanted not in ("", "ALL"):
        raise invalid("FunctionVersion", "ALL", repr(wanted[:100]))
    latest = gateway.store.functions.all()
    if not wanted:
        one_each = (((function.name, 0), configuration(function)) for function in latest)
        return paged("Functions", one_each, query)
    first = query.get("Marker", "").partition(":")[0]
    names = [function.name for function in latest if function.name >= first]
    return paged("Functions", (entry for name in names for entry in _left(gateway, name)), query)


def show_versions(gateway: Gateway, name: str, query: Mapping[str, str]) -> Answer:
    """GET .../functions/<name>/versions."""
    return paged("Versions", _versions(gateway, unqualified(name)), query)


def publish(gateway: Gateway, name: str) -> Answer:
    """POST .../functions/<name>/versions: every deployment is a version, so the latest is it."""
    function = gateway.store.functions.get(FunctionRef(unqualified(name)))
    return json_answer(configuration(function, str(function.version)), 201)


def remove(gateway: Gateway, name: str, qualifier: str) -> Answer:
    """DELETE .../functions/<name>: a version, or all; accepted calls still run."""
    ref = parse_name(name, qualifier)
    if LATEST in (qualifier, name.rpartition(":")[2]):
        raise invalid("Qualifier", "the number of a version, or none for all", LATEST)
    retire(gateway, str(ref))
    return json_answer({})


def paged(member: str, entries: Iterable[Entry], query: Mapping[str, str]) -> Answer:
    """A page of records that come in the order of their keys: those behind `Marker`, MaxItems.

    A marker is the key of the last record shown, so what comes and goes in between moves nothing.
    """
    text = query.get("MaxItems", str(PAGE))
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= MOST_ITEMS:
        raise invalid("MaxItems", f"a whole number from 1 to {MOST_ITEMS}", repr(text[:100]))
    after = _marker(query.get("Marker", ""))
    behind = ((key, record) for key, record in entries if key > after)
    shown = list(islice(behind, min(int(text), PAGE)))
    answer: Record = {member: [record for _, record in shown]}
    if next(behind, None) is not None:
        name, number = shown[-1][0]
        answer["NextMarker"] = f"{name}:{number}"
    return json_answer(answer)


def _marker(text: str) -> Key:
    if not text:
        return ("", -1)
    name, _, number = text.rpartition(":")
    if not name or not re.fullmatch("[0-9]{1,9}", number):
        raise invalid("Marker", "the NextMarker of a page", repr(text[:100]))
    return name, int(number)


def _versions(gateway: Gateway, name: str) -> Iterator[Entry]:
    """The latest version by that name, then every one by its number."""
    functions = gateway.store.functions
    yield (name, 0), configuration(functions.get(FunctionRef(name)), LATEST)
    for number in functions.versions(name):
        function = functions.get(FunctionRef(name, number))
        yield (name, number), configuration(function, str(number))


def _left(gateway: Gateway, name: str) -> Iterator[Entry]:
    """Those of a function that may be removed meanwhile."""
    with suppress(UnknownFunction):
        yield from _versions(gateway, name)


def _found(gateway: Gateway, ref: FunctionRef) -> Record:
    return _shown(gateway.store.functions.get(ref), ref)


def _shown(function: Function, ref: FunctionRef) -> Record:
    return configuration(function, str(ref).partition("@")[2])
