"""Names of functions as OpenFaaS writes them: behind a dot their namespace, which is always one."""

from __future__ import annotations

from contract.errors import UnknownFunction
from contract.function import FunctionRef

NAMESPACE = "openfaas-fn"


def parse_name(text: str) -> FunctionRef:
    """The function of `NAME[@VERSION][.NAMESPACE]`; raises UnknownFunction."""
    name, dot, namespace = text.partition(".")
    if dot:
        check_namespace(namespace)
    return FunctionRef.parse(name)


def check_namespace(namespace: str) -> None:
    """Raise UnknownFunction unless it is the one that all functions are in."""
    if namespace not in ("", NAMESPACE):
        expected = f"all functions are in {NAMESPACE}"
        raise UnknownFunction(f"namespace: {expected}, got {namespace[:100]!r}")
