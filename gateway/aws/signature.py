"""AWS Signature Version 4: what was signed, and whether it was signed with a secret.

Pure: the parts of a request and the time are handed in. By the letter of AWS's "Create a signed AWS
API request", in its form for headers; botocore is what the tests hold it against.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
# how far a signature's time may be from ours
MAX_SKEW_S = 300.0
_SCOPE_END = "aws4_request"
_CREDENTIAL = re.compile(
    r"([^/\s]{1,128})/([0-9]{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/([a-z0-9_]+)"
)
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+(;[!#$%&'*+.^_`|~0-9a-z-]+)*")
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y%m%dT%H%M%SZ"


class NotSigned(Exception):
    """A signature that does not hold; the text says why."""


class Authorization(NamedTuple):
    """The `Authorization` header of a signed request."""

    key_id: str
    # YYYYMMDD, region and service, which the signing key is made for
    date: str
    region: str
    service: str
    # lower case, in their order
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        """The credential's scope, as it is signed."""
        return f"{self.date}/{self.region}/{self.service}/{_SCOPE_END}"


class Request(NamedTuple):
    """What is signed of a request."""

    method: str
    # as they came, before anything was decoded
    path: str
    query: str
    # by name in lower case
    headers: Mapping[str, str]
    body: bytes


def parse_authorization(header: str) -> Authorization:
    """The parts of an `Authorization` header; raises NotSigned."""
    algorithm, _, rest = header.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise NotSigned(f"Authorization: expected {ALGORITHM}, got {algorithm[:40]!r}")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        if name in parts:
            raise NotSigned(f"Authorization: {name[:40]!r} twice")
        parts[name] = value
    credential = _CREDENTIAL.fullmatch(parts.get("Credential", ""))
    if credential is None or credential[5] != _SCOPE_END:
        expected = f"Credential=KEY/YYYYMMDD/REGION/SERVICE/{_SCOPE_END}"
        raise NotSigned(f"Authorization: expected {expected}")
    names, signature = parts.get("SignedHeaders", ""), parts.get("Signature", "")
    if not _NAMES.fullmatch(names):
        raise NotSigned("Authorization: expected SignedHeaders=name;name, in lower case")
    if not _HEX.fullmatch(signature):
        raise NotSigned("Authorization: expected Signature=, 64 hexadecimal digits")
    key_id, date, region, service, _ = credential.groups()
    return Authorization(key_id, date, region, service, tuple(names.split(";")), signature)


def check_time(authorization: Authorization, headers: Mapping[str, str], now_s: float) -> str:
    """The time that was signed, if it is about now; raises NotSigned."""
    text = headers.get("x-amz-date", "")
    try:
        moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise NotSigned(f"X-Amz-Date: expected YYYYMMDDThhmmssZ, got {text[:40]!r}") from None
    skew_s = abs(moment.timestamp() - now_s)
    if skew_s > MAX_SKEW_S:
        raise NotSigned(
            f"Signature expired or not yet current: X-Amz-Date is {skew_s:.0f} s from the time "
            f"here, at most {MAX_SKEW_S:.0f} s are allowed"
        )
    if not text.startswith(authorization.date):
        raise NotSigned("Authorization: the date of Credential is not that of X-Amz-Date")
    return text


def check_headers(authorization: Authorization, headers: Mapping[str, str]) -> None:
    """Raise NotSigned unless all that decides what a request means is signed."""
    signed = set(authorization.signed_headers)
    must = {"host", "x-amz-date"} | {name for name in headers if name.startswith("x-amz-")}
    if missing := sorted(must - signed):
        raise NotSigned(f"SignedHeaders: {missing[0]} must be among them")
    if unknown := sorted(signed - headers.keys()):
        raise NotSigned(f"SignedHeaders: {unknown[0]} was signed, but did not come")


def is_signed_with(
    secret: str, authorization: Authorization, moment: str, request: Request
) -> bool:
    """Whether the secret made this signature, in constant time; `moment` is `check_time`'s."""
    canonical = canonical_request(request, authorization.signed_headers)
    expected = sign(secret, authorization, moment, canonical)
    return hmac.compare_digest(expected, authorization.signature)


def sign(secret: str, authorization: Authorization, moment: str, canonical: str) -> str:
    """The signature of a canonical request, in hexadecimal."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join((ALGORITHM, moment, authorization.scope, digest))
    key = f"AWS4{secret}".encode()
    for part in (authorization.date, authorization.region, authorization.service, _SCOPE_END):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def canonical_request(request: Request, signed_headers: tuple[str, ...]) -> str:
    """The one text that a request and its signed headers stand for."""
    headers = [f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed_headers]
    return "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            _canonical_query(request.query),
            "".join(headers),
            ";".join(signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _canonical_path(path: str) -> str:
    """Without dots and empty segments; what is encoded already is encoded once more."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return quote("/" + "/".join(kept) + end, safe="/~")


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=")[::2] for part in query.split("&")] if query else []
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
