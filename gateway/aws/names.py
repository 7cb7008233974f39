"""Names of functions as the Lambda API writes them: plain, qualified, partial and whole ARNs."""

from __future__ import annotations

import re

from contract.errors import RequestError, UnknownFunction
from contract.function import FunctionRef

LATEST = "$LATEST"
# there is one region and one account here; those of a request may be any
ARN = "arn:aws:lambda:us-east-1:000000000000"
MAX_NAME = 256
_NAME = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:)?(?:[a-z]{2}(?:-[a-z]+)+-[0-9]:)?(?:[0-9]{12}:)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_-]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9_-]+))?"
)
_QUALIFIER = re.compile(r"\$LATEST|[a-zA-Z0-9_-]{1,128}")


def arn_of(name: str, qualifier: str = "") -> str:
    """The ARN of a function, or of what a qualifier means of it."""
    return f"{ARN}:function:{name}" + (f":{qualifier}" if qualifier else "")


def parse_name(text: str, qualifier: str = "") -> FunctionRef:
    """The function that a name and `Qualifier` ("": none) mean.

    Raises RequestError for what is no name, UnknownFunction for what cannot be one here.
    """
    match = _NAME.fullmatch(text) if len(text) <= MAX_NAME else None
    if match is None:
        raise RequestError(
            "FunctionName: expected a name, NAME:QUALIFIER or an ARN of a function, "
            f"got {text[:100]!r}"
        )
    if qualifier and not _QUALIFIER.fullmatch(qualifier):
        expected = f"a version, an alias or {LATEST}"
        raise RequestError(f"Qualifier: expected {expected}, got {qualifier[:100]!r}")
    name, derived = match["name"], match["qualifier"] or ""
    if derived and qualifier and derived != qualifier:
        raise RequestError(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    chosen = derived or qualifier
    wanted = f"{name}@{chosen}" if chosen else name
    try:
        return FunctionRef.parse(name if chosen in ("", LATEST) else wanted)
    except UnknownFunction:
        # a name that no function here can have
        raise UnknownFunction(function=wanted) from None


def unqualified(text: str) -> str:
    """The name of a function where a qualifier has no meaning; raises as `parse_name`."""
    return parse_name(text).name
