"""Signatures of webhooks, held against the library that receivers use."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from contract.settings import SettingError, read_settings
from gateway.delivery.signing import headers_of, new_secret


@given(st.text(max_size=50), st.from_regex("[0-9a-f]{24}", fullmatch=True))
def test_receivers_can_verify_a_message(text: str, message_id: str) -> None:
    """By the new secret and by the one before."""
    old, new, body = new_secret(), new_secret(), text.encode()
    headers = headers_of([new, old], message_id, int(time.time()), body)
    for secret in (new, old):
        Webhook(secret).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body + b" ", headers, json_parse=False)


def test_secrets_are_settings_too() -> None:
    """One that is none is refused without being shown."""
    secret = new_secret()
    assert read_settings({"FUSEBOX_WEBHOOK_SECRET": secret}).webhook_secret == secret
    for wrong in ("hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_***"):
        with pytest.raises(SettingError, match="FUSEBOX_WEBHOOK_SECRET: expected whsec_") as error:
            read_settings({"FUSEBOX_WEBHOOK_SECRET": wrong})
        assert wrong == "whsec_" or wrong not in str(error.value)
