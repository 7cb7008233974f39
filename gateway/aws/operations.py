"""The operations of the Lambda API that are answered: what routes and description are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from contract.access import Scope
from gateway.answer import Answer
from gateway.aws import aliases, bodies, concurrency, configurations, mappings
from gateway.aws.errors import MAX_PAYLOAD_BYTES
from gateway.aws.invoke import invoke, invoke_async
from gateway.context import Gateway
from gateway.request_body import read_body

_2015 = "/2015-03-31/functions"
_FUNCTION = f"{_2015}/{{name}}"
_ALIASES = f"{_FUNCTION}/aliases"
_ALIAS = f"{_ALIASES}/{{alias}}"
_RESERVED_SET = "/2017-10-31/functions/{name}/concurrency"
_RESERVED = "/2019-09-30/functions/{name}/concurrency"
_MAPPINGS = "/2015-03-31/event-source-mappings"
_MAPPING = f"{_MAPPINGS}/{{uuid}}"
_PAGE = ("Marker", "MaxItems")


class Asked(NamedTuple):
    """A request of one operation: its path's parts, its query, and where it is read from."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    environ: dict[str, Any]

    @property
    def name(self) -> str:
        """The function's name as it was written."""
        return self.parts["name"]

    @property
    def alias(self) -> str:
        """The alias's name."""
        return self.parts["alias"]

    @property
    def uuid(self) -> str:
        """Of an event source mapping."""
        return self.parts["uuid"]

    @property
    def qualifier(self) -> str:
        """`Qualifier`, or ""."""
        return self.query.get("Qualifier", "")

    def members(self) -> bytes:
        """The body of an operation that takes a few members."""
        return read_body(self.environ, bodies.MAX_BYTES)

    def payload(self, gateway: Gateway) -> bytes:
        """The body of an invocation."""
        most = min(MAX_PAYLOAD_BYTES, gateway.settings.max_body_bytes)
        return read_body(self.environ, most)


class Operation(NamedTuple):
    """One operation, by AWS's name of it."""

    name: str
    method: str
    path: str
    answer: Callable[[Gateway, Asked], Answer]
    status: int
    summary: str
    query: tuple[str, ...] = ()
    has_body: bool = False

    @property
    def scope(self) -> Scope | None:
        """What a key must be allowed for it."""
        if self.name.startswith("Invoke"):
            return Scope.INVOKE
        return None if self.method == "GET" else Scope.DEPLOY


INVOKE = Operation(
    "Invoke",
    "POST",
    f"{_FUNCTION}/invocations",
    lambda g, a: invoke(g, a.name, a.qualifier, a.environ, a.payload(g)),
    200,
    "Call a function: at once, as an event (202) or dry (204)",
    ("Qualifier",),
    has_body=True,
)
OPERATIONS: tuple[Operation, ...] = (
    INVOKE,
    Operation(
        "InvokeAsync",
        "POST",
        "/2014-11-13/functions/{name}/invoke-async",
        lambda g, a: invoke_async(g, a.name, a.environ, a.payload(g)),
        202,
        "Call a function without waiting; Invoke's elder",
        has_body=True,
    ),
    Operation(
        "ListFunctions",
        "GET",
        _2015,
        lambda g, a: configurations.show_all(g, a.query),
        200,
        "The latest version of every function, or every version",
        (*_PAGE, "FunctionVersion"),
    ),
    Operation(
        "GetFunction",
        "GET",
        _FUNCTION,
        lambda g, a: configurations.show(g, a.name, a.qualifier),
        200,
        "Describe a function, and where its artifact is",
        ("Qualifier",),
    ),
    Operation(
        "GetFunctionConfiguration",
        "GET",
        f"{_FUNCTION}/configuration",
        lambda g, a: configurations.show_configuration(g, a.name, a.qualifier),
        200,
        "Describe a function",
        ("Qualifier",),
    ),
    Operation(
        "ListVersionsByFunction",
        "GET",
        f"{_FUNCTION}/versions",
        lambda g, a: configurations.show_versions(g, a.name, a.query),
        200,
        "The versions of a function",
        _PAGE,
    ),
    Operation(
        "PublishVersion",
        "POST",
        f"{_FUNCTION}/versions",
        lambda g, a: configurations.publish(g, a.name),
        201,
        "The latest version: every deployment is one",
        has_body=True,
    ),
    Operation(
        "DeleteFunction",
        "DELETE",
        _FUNCTION,
        lambda g, a: configurations.remove(g, a.name, a.qualifier),
        200,
        "Take a version, or all, out of service",
        ("Qualifier",),
    ),
    Operation(
        "CreateAlias",
        "POST",
        _ALIASES,
        lambda g, a: aliases.create(g, a.name, a.members()),
        201,
        "Make an alias, of one version or of two by weight",
        has_body=True,
    ),
    Operation(
        "ListAliases",
        "GET",
        _ALIASES,
        lambda g, a: aliases.show_all(g, a.name, a.query),
        200,
        "The aliases of a function",
        (*_PAGE, "FunctionVersion"),
    ),
    Operation(
        "GetAlias",
        "GET",
        _ALIAS,
        lambda g, a: aliases.show(g, a.name, a.alias),
        200,
        "An alias and its versions",
    ),
    Operation(
        "UpdateAlias",
        "PUT",
        _ALIAS,
        lambda g, a: aliases.update(g, a.name, a.alias, a.members()),
        200,
        "Move an alias",
        has_body=True,
    ),
    Operation(
        "DeleteAlias",
        "DELETE",
        _ALIAS,
        lambda g, a: aliases.remove(g, a.name, a.alias),
        204,
        "Remove an alias",
    ),
    Operation(
        "GetFunctionConcurrency",
        "GET",
        _RESERVED,
        lambda g, a: concurrency.show(g, a.name),
        200,
        "None is reserved for any function",
    ),
    Operation(
        "PutFunctionConcurrency",
        "PUT",
        _RESERVED_SET,
        lambda g, a: concurrency.put(g, a.name),
        200,
        "Refused: functions have no concurrency of their own",
        has_body=True,
    ),
    Operation(
        "DeleteFunctionConcurrency",
        "DELETE",
        _RESERVED_SET,
        lambda g, a: concurrency.remove(g, a.name),
        204,
        "There is none to remove",
    ),
    Operation(
        "CreateFunction",
        "POST",
        _2015,
        lambda g, a: concurrency.refuse_code(),
        201,
        "Refused: deploy with `fusebox deploy`",
        has_body=True,
    ),
    Operation(
        "UpdateFunctionCode",
        "PUT",
        f"{_FUNCTION}/code",
        lambda g, a: concurrency.refuse_code(a.name),
        200,
        "Refused: deploy with `fusebox deploy`",
        has_body=True,
    ),
    Operation(
        "UpdateFunctionConfiguration",
        "PUT",
        f"{_FUNCTION}/configuration",
        lambda g, a: concurrency.refuse_code(a.name),
        200,
        "Refused: deploy with `fusebox deploy`",
        has_body=True,
    ),
    Operation(
        "CreateEventSourceMapping",
        "POST",
        _MAPPINGS,
        lambda g, a: mappings.create(g, a.members()),
        202,
        "Call a function with the entries of a Redis stream",
        has_body=True,
    ),
    Operation(
        "ListEventSourceMappings",
        "GET",
        _MAPPINGS,
        lambda g, a: mappings.show_all(g, a.query),
        200,
        "The stream triggers",
        (*_PAGE, "FunctionName", "EventSourceArn"),
    ),
    Operation(
        "GetEventSourceMapping",
        "GET",
        _MAPPING,
        lambda g, a: mappings.show(g, a.uuid),
        200,
        "A stream trigger",
    ),
    Operation(
        "UpdateEventSourceMapping",
        "PUT",
        _MAPPING,
        lambda g, a: mappings.update(g, a.uuid, a.members()),
        202,
        "Pause a stream trigger, or let it go on",
        has_body=True,
    ),
    Operation(
        "DeleteEventSourceMapping",
        "DELETE",
        _MAPPING,
        lambda g, a: mappings.remove(g, a.uuid),
        202,
        "Remove a stream trigger",
    ),
)
