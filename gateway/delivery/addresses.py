"""Which addresses webhooks may reach: public ones, and those that the operator allows."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# what the registries call global, and yet is none of the public
_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10")
)
# All public IPv6 is in here today; what stands for an IPv4 address by another name (mapped,
# compatible, translated by NAT64) is not.
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
# protocol assignments with Teredo in them, documentation, 6to4
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16")
)


def is_public(address: Address) -> bool:
    """Whether it is a plain public unicast address."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.scope_id is not None or address not in _UNICAST_V6:
        return False
    return not any(address in network for network in _SPECIAL_V6)


class Allowed:
    """The hosts and networks of `FUSEBOX_WEBHOOK_ALLOW`."""

    def __init__(self, words: Iterable[str]) -> None:
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        for word in words:
            try:
                self._networks.append(ipaddress.ip_network(word))
            except ValueError:
                self._hosts.add(word)

    def is_named(self, host: str, address: Address) -> bool:
        """Whether the operator allows this, whatever the address is."""
        if host.lower() in self._hosts:
            return True
        # an address of one family is in no network of the other, mapped or not
        return any(address in network for network in self._networks)

    def may_reach(self, host: str, address: Address) -> bool:
        """Whether a webhook of this host may be sent to this address of it."""
        return self.is_named(host, address) or is_public(address)
