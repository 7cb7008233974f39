"""An alias: a name for one version of a function, or for several by weight, that can be moved.

`prod=3` names version 3; `prod=3:90,4:10` sends nine calls of ten to version 3. Which version a
call goes to is drawn, or with a sticky key decided by the key alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from contract.errors import InvalidInput

# begins with a letter, so that it cannot be taken for a version
ALIAS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
# means what no alias can be made to mean
RESERVED = frozenset({"latest"})
MAX_VERSIONS, MAX_WEIGHT = 8, 10_000
# of one function; and how many of its former targets an alias remembers
MAX_ALIASES, MAX_BEFORE = 32, 10
_MAX_VERSION = 999_999_999
_TARGET = re.compile(r"([1-9][0-9]{0,8})(?::([1-9][0-9]{0,4}))?")

# versions and their weights, as they were written
Versions = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Alias:
    """One alias of a function; `put` of the store makes it, and moves it."""

    name: str
    versions: Versions
    # what it pointed at before, the latest first; kept by the store
    before: tuple[Versions, ...] = field(default=(), compare=False)

    @property
    def main(self) -> int:
        """The version of most weight, the first of equals: what NAME@ALIAS shows."""
        return max(self.versions, key=lambda one: one[1])[0]

    @property
    def text(self) -> str:
        """The versions as `3` or `3:90,4:10`."""
        if len(self.versions) == 1:
            return str(self.versions[0][0])
        return encode_versions(self.versions)

    def choose(self, key: str, draw: float) -> int:
        """The version of one call: by `draw` from 0 to below 1, or by the key where there is one.

        A key keeps its version while the weights stay; where one version's share grows, only keys
        that come to it change.
        """
        if key:
            digest = hashlib.sha256(f"{self.name}\0{key}".encode()).digest()
            draw = int.from_bytes(digest[:6], "big") / 2**48
        left = draw * sum(weight for _, weight in self.versions)
        for version, weight in self.versions:
            left -= weight
            if left < 0:
                return version
        return self.versions[-1][0]

    def encode(self) -> bytes:
        """The versions now, then those before, as the store's scripts read them."""
        return ";".join(map(encode_versions, (self.versions, *self.before))).encode()

    @classmethod
    def decode(cls, name: str, data: bytes) -> Alias:
        """The alias of `encode`."""
        now, *before = (_decode_versions(part) for part in data.decode().split(";"))
        return cls(name, now, tuple(before))


def encode_versions(versions: Versions) -> str:
    """Versions with their weights: `3:90,4:10`."""
    return ",".join(f"{version}:{weight}" for version, weight in versions)


def _decode_versions(text: str) -> Versions:
    pairs = (part.partition(":") for part in text.split(","))
    return tuple((int(version), int(weight)) for version, _, weight in pairs)


def check_name(name: str) -> str:
    """The name, if an alias may have it; raises InvalidInput."""
    if not ALIAS_NAME.fullmatch(name) or name in RESERVED:
        expected = "a letter, then at most 62 letters, digits, - and _; not `latest`"
        raise InvalidInput.of("alias", expected, repr(name[:100]))
    return name


def make_alias(name: str, versions: Versions) -> Alias:
    """An alias of values from outside; raises InvalidInput naming what is wrong."""
    check_name(name)
    if not 1 <= len(versions) <= MAX_VERSIONS:
        expected = f"1 to {MAX_VERSIONS} versions"
        raise InvalidInput.of("versions", expected, f"{len(versions)} of them")
    if len({version for version, _ in versions}) != len(versions):
        raise InvalidInput.of("versions", "each version once", encode_versions(versions)[:100])
    for version, weight in versions:
        if not 1 <= version <= _MAX_VERSION:
            raise InvalidInput.of("versions", "numbers of versions", repr(version))
        if not 1 <= weight <= MAX_WEIGHT:
            expected = f"a weight from 1 to {MAX_WEIGHT}"
            raise InvalidInput.of(f"versions.{version}", expected, repr(weight))
    return Alias(name, versions)


def parse_alias(text: str) -> Alias:
    """An alias as it is typed, `prod=3` or `prod=3:90,4:10`; raises InvalidInput."""
    name, equals, targets = text.partition("=")
    found = [_TARGET.fullmatch(part.strip()) for part in targets.split(",")] if equals else [None]
    versions = []
    for match in found:
        if match is None:
            expected = "ALIAS=VERSION or ALIAS=VERSION:WEIGHT,VERSION:WEIGHT"
            raise InvalidInput.of("alias", expected, repr(text[:100]))
        version, weight = match.groups()
        if weight is None and len(found) > 1:
            raise InvalidInput.of(f"versions.{version}", "a weight, as in 3:90", "none")
        versions.append((int(version), int(weight or 1)))
    return make_alias(name, tuple(versions))
