"""The handshake of CloudEvents webhooks; time is an argument."""

from __future__ import annotations

from gateway.delivery.handshake import VALID_S, Handshakes

ANY = {"WebHook-Allowed-Origin": "*"}


def test_a_permission_is_remembered_for_a_while() -> None:
    """Of this receiver alone."""
    handshakes = Handshakes("fusebox")
    assert handshakes.note("a", 200, ANY, 0.0) is None
    assert handshakes.is_known("a", VALID_S - 1)
    assert not handshakes.is_known("a", VALID_S)
    assert not handshakes.is_known("b", 0.0)


def test_a_rate_spaces_deliveries() -> None:
    """Sixty a minute are one a second; what comes sooner is put off, not failed."""
    handshakes = Handshakes("fusebox")
    handshakes.note("a", 200, ANY | {"WebHook-Allowed-Rate": "60"}, 10.0)
    assert handshakes.turn("a", 10.0) is None
    # asked at once by another delivery: its turn is counted with the others'
    handshakes.note("a", 200, ANY | {"WebHook-Allowed-Rate": "60"}, 10.1)
    later = handshakes.turn("a", 10.25)
    assert later is not None
    assert (later.is_put_off, later.retry_after_s) == (True, 0.75)
    assert handshakes.turn("a", 11.0) is None


def test_what_is_no_permission() -> None:
    """Another origin, none at all, a status that refuses."""
    handshakes = Handshakes("fusebox")
    for status, headers in ((200, {}), (200, {"WebHook-Allowed-Origin": "x"}), (405, ANY)):
        refusal = handshakes.note("a", status, headers, 0.0)
        assert refusal is not None
        assert "handshake" in refusal.error
    assert not handshakes.is_known("a", 0.0)
