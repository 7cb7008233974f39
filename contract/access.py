"""API keys: who may ask the gateway for what, and how often.

A key reads `fb_<id>_<secret>`. Its secret is 256 random bits, so one SHA-256 is enough to store it
by: slow hashes protect secrets that can be guessed, and cost every request their slowness.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from contract.errors import InvalidInput

MAX_NAME_CHARS = 100
MAX_LIFE_S = 10 * 366 * 86_400.0
KEY_ID = re.compile(r"[0-9a-f]{12}")
_TOKEN = re.compile(rf"fb_({KEY_ID.pattern})_([0-9a-f]{{64}})")
RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")


class Scope(StrEnum):
    """What a key may do; every key may read what is deployed and how it fares."""

    INVOKE = "invoke"  # call functions, see and cancel jobs
    DEPLOY = "deploy"  # deploy and remove functions, read their logs
    ADMIN = "admin"  # make and revoke keys; implies the others


class Token(NamedTuple):
    """A key as its holder shows it."""

    id: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """The two parts; None where this is no key."""
        match = _TOKEN.fullmatch(text)
        return cls(*match.groups()) if match else None

    @property
    def text(self) -> str:
        """What the holder keeps."""
        return f"fb_{self.id}_{self.secret}"

    @property
    def signing_secret(self) -> str:
        """What AWS clients sign with (`aws_secret_access_key`), as powerful as the key itself.

        It is what the store keeps of the secret: who verifies a signature must know what it was
        made with, and nothing else of a key is known there.
        """
        return digest(self.secret)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the store keeps it. Times are Unix seconds."""

    id: str
    name: str
    secret_sha256: str
    scopes: tuple[Scope, ...]
    # `100/minute`, or "" for any
    rate: str
    created_at_s: float
    # None: does not expire
    expires_at_s: float | None

    def is_opened_by(self, secret: str) -> bool:
        """Whether this is its secret, in constant time."""
        return hmac.compare_digest(self.secret_sha256, digest(secret))

    @property
    def signing_secret(self) -> str:
        """What requests of this key are signed with: `Token.signing_secret`."""
        return self.secret_sha256

    def is_expired(self, now_s: float) -> bool:
        """Whether its time is over."""
        return self.expires_at_s is not None and now_s >= self.expires_at_s

    def can(self, scope: Scope | None) -> bool:
        """Whether it may do this; None is what every key may."""
        return scope is None or scope in self.scopes or Scope.ADMIN in self.scopes

    def shown(self, used_at_s: float | None) -> dict[str, Any]:
        """The key as it is shown: without its secret, moments to the second in UTC."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": [str(scope) for scope in self.scopes],
            "rate": self.rate or None,
            "created_at": _moment(self.created_at_s),
            "expires_at": _moment(self.expires_at_s),
            "last_used_at": _moment(used_at_s),
        }

    def encode(self) -> bytes:
        """JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> ApiKey:
        """The key of `encode`."""
        record = json.loads(data)
        return cls(**record | {"scopes": tuple(Scope(scope) for scope in record["scopes"])})


class Wish(NamedTuple):
    """A key to make, as somebody asks for it."""

    name: str = ""
    scopes: Iterable[Any] = (Scope.INVOKE,)
    rate: str = ""
    expires_in_s: float | None = None


def digest(secret: str) -> str:
    """What is stored of a secret, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def mint(wish: Wish) -> tuple[ApiKey, Token]:
    """A new key, and its token to be shown once; raises InvalidInput naming the field."""
    name, _, rate, expires_in_s = wish
    if len(name) > MAX_NAME_CHARS or not (name.isprintable() or not name):
        expected = f"at most {MAX_NAME_CHARS} printable characters"
        raise InvalidInput.of("name", expected, repr(name[:MAX_NAME_CHARS]))
    scopes = _scopes(wish.scopes)
    if rate and not RATE.fullmatch(rate):
        expected = "a rate such as 100/minute, per second, minute, hour or day"
        raise InvalidInput.of("rate", expected, repr(rate[:50]))
    if expires_in_s is not None and not 0 < expires_in_s <= MAX_LIFE_S:
        expected = f"seconds, more than 0 and at most {MAX_LIFE_S:.0f}"
        raise InvalidInput.of("expires_in_s", expected, repr(expires_in_s))
    now_s = time.time()
    token = Token(secrets.token_hex(6), secrets.token_hex(32))
    ends_at_s = None if expires_in_s is None else now_s + expires_in_s
    return ApiKey(token.id, name, digest(token.secret), scopes, rate, now_s, ends_at_s), token


def _moment(at_s: float | None) -> str | None:
    if at_s is None:
        return None
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _scopes(wanted: Iterable[Any]) -> tuple[Scope, ...]:
    known = {str(scope): scope for scope in Scope}
    asked = list(wanted)
    if not asked or not all(isinstance(word, str) and word in known for word in asked):
        expected = f"at least one of {', '.join(known)}"
        raise InvalidInput.of("scopes", expected, repr(asked)[:100])
    return tuple(scope for scope in Scope if scope in asked)
