"""Which addresses a webhook may reach."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.addresses import Allowed, is_public

NOBODY = Allowed(())
INNER = ["10.1.2.3", "127.0.0.1", "169.254.169.254", "192.168.0.1", "100.64.0.1", "0.0.0.0"]


@pytest.mark.parametrize(
    "text",
    [
        *INNER,
        "172.16.0.1",
        "172.31.255.255",
        "127.255.255.254",
        "100.127.255.255",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_not_public(text: str) -> None:
    """Whatever stands for another address, or for this machine and its network."""
    assert not is_public(ipaddress.ip_address(text))
    assert not NOBODY.may_reach("example.com", ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::8a"]
)
def test_what_is_public(text: str) -> None:
    """Plain unicast addresses of the internet."""
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_no_private_address_hides_in_ipv6(address: ipaddress.IPv4Address) -> None:
    """In none of the forms that hold an IPv4 address."""
    number = int(address)
    for base, shift in (("::ffff:0:0", 0), ("::", 0), ("64:ff9b::", 0), ("2002::", 80)):
        hidden = ipaddress.IPv6Address(int(ipaddress.IPv6Address(base)) + (number << shift))
        assert not is_public(hidden)


def test_the_operator_allows_hosts_and_networks() -> None:
    """Each for itself; a mapped address is not the one it stands for."""
    allowed = Allowed(("127.0.0.0/8", "hooks.internal", "fd00::/8"))
    ip = ipaddress.ip_address
    assert allowed.may_reach("x", ip("127.0.0.1"))
    assert allowed.may_reach("HOOKS.internal", ip("10.0.0.1"))
    assert allowed.may_reach("x", ip("fd00::1"))
    assert not allowed.may_reach("x", ip("::ffff:127.0.0.1"))
    assert not allowed.may_reach("sub.hooks.internal", ip("10.0.0.1"))
    assert not allowed.is_named("x", ip("8.8.8.8"))
