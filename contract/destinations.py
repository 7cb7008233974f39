"""Destinations: who is told of the end of a job, as people write them.

`https://HOST/PATH`         a webhook; words before it say how, each followed by `+`: the format of
                            its body (`cloudevent` without one), and `handshake`
`function:NAME[@VERSION]`   a function whose input the result becomes; an alias may stand for the
                            version
`stream:events:KEY`         a Redis stream
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import InvalidInput
from contract.function import NAME

# of one list: what a function names, or what a call does
MAX_DESTINATIONS = 8
MAX_CHARS = 2048
# All that a job may write to: no key of the platform begins so.
STREAM_PREFIX = "events:"
CLOUDEVENT = "cloudevent"
HANDSHAKE = "handshake"

_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")
_STREAM = re.compile(rf"{STREAM_PREFIX}[A-Za-z0-9._:-]{{1,200}}")
_FUNCTION = re.compile(rf"{NAME.pattern}(?:@[A-Za-z0-9](?:[A-Za-z0-9_-]{{0,126}}[A-Za-z0-9])?)?")
# stricter than RFC 3986, so that no two readers see another host in it
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>(?:[/?][!-\"$-+\--\[\]-~]*)?)"
)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PORTS = {"http": 80, "https": 443}


class Kind(StrEnum):
    """What a destination is."""

    WEBHOOK = "webhook"
    FUNCTION = "function"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Destination:
    """One who is told."""

    kind: Kind
    # a URL, NAME[@VERSION], or the key of a stream
    target: str
    # of a webhook: how its body is made
    format: str = CLOUDEVENT
    # of a webhook: it is asked first whether it wants to be told
    is_asked: bool = False

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        if self.kind is not Kind.WEBHOOK:
            return f"{self.kind}:{self.target}"
        words = [self.format] if self.format != CLOUDEVENT else []
        words += [HANDSHAKE] if self.is_asked else []
        return "+".join([*words, self.target])

    @property
    def lane(self) -> str:
        """Deliveries of one lane share a bound, so that a slow one holds up its own alone."""
        if self.kind is not Kind.WEBHOOK:
            return str(self.kind)
        url = url_of(self.target)
        return f"{url.host.lower()}:{url.port}"


@dataclass(frozen=True, slots=True)
class Url:
    """A webhook's URL in its parts; the host without brackets, the path with its query."""

    scheme: str
    host: str
    port: int
    path: str


def url_of(text: str) -> Url:
    """The parts of a webhook's URL; raises ValueError saying what was expected."""
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("https://HOST[:PORT][/PATH] without user, fragment, comma or space")
    scheme, host, port, rest = match.group("scheme", "host", "port", "rest")
    if not _is_host(host):
        raise ValueError("a host name, an IPv4 address in four parts or [an IPv6 address]")
    number = int(port) if port else _PORTS[scheme]
    if not 0 < number <= 65535:
        raise ValueError("a port from 1 to 65535")
    return Url(scheme, host.strip("[]"), number, rest or "/")


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return _is_ipv6(host[1:-1])
    labels = host.removesuffix(".").split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        return False
    # what ends in a number is an address, which some readers write in odd ways (0x7f.1, 2130706433)
    is_address = labels[-1].isdigit() or re.fullmatch("0[xX][0-9A-Fa-f]*", labels[-1]) is not None
    return not is_address or _is_dotted(host)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_dotted(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and all(
        part.isdigit() and str(int(part)) == part and int(part) < 256 for part in parts
    )


def parse(text: str, field: str = "destination") -> Destination:
    """The destination of a text; raises InvalidInput naming the field."""
    try:
        return _parse(text)
    except ValueError as error:
        raise InvalidInput.of(field, str(error), repr(text[:200])) from error


def _parse(text: str) -> Destination:
    if len(text) > MAX_CHARS:
        raise ValueError(f"at most {MAX_CHARS} characters")
    kind, separator, rest = text.partition(":")
    if separator and kind == Kind.FUNCTION:
        if not _FUNCTION.fullmatch(rest):
            raise ValueError("function:NAME, function:NAME@VERSION or function:NAME@ALIAS")
        return Destination(Kind.FUNCTION, rest)
    if separator and kind == Kind.STREAM:
        if not _STREAM.fullmatch(rest):
            raise ValueError(f"stream:{STREAM_PREFIX}KEY, of letters, digits, `.`, `_`, `:`, `-`")
        return Destination(Kind.STREAM, rest)
    *words, scheme = kind.split("+")
    if scheme not in _PORTS:
        raise ValueError("https://..., function:NAME or stream:events:KEY")
    if not all(map(_WORD.fullmatch, words)):
        raise ValueError("words of lower-case letters and digits before the URL, as FORMAT+https:")
    target = scheme + text[len(kind) :]
    url_of(target)
    formats = [word for word in words if word != HANDSHAKE]
    if len(formats) > 1 or words.count(HANDSHAKE) > 1:
        raise ValueError(f"one format, and {HANDSHAKE} once")
    return Destination(Kind.WEBHOOK, target, (formats or [CLOUDEVENT])[0], HANDSHAKE in words)


def parse_all(texts: Iterable[str], field: str) -> tuple[Destination, ...]:
    """Distinct destinations, MAX_DESTINATIONS at most; raises InvalidInput naming the field."""
    found = tuple(dict.fromkeys(parse(text, field) for text in texts))
    if len(found) > MAX_DESTINATIONS:
        raise InvalidInput.of(field, f"at most {MAX_DESTINATIONS} destinations", str(len(found)))
    return found
