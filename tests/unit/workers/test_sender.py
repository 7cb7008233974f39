"""Groups on their way to workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import StoreUnavailable
from contract.job import Claim, JobId
from contract.settings import Settings
from workers.celery_app import Sender, make_app


def test_a_group_that_cannot_be_sent_says_that_the_store_is_away(tmp_path: Path) -> None:
    """After a few attempts and not never: the scheduler has other things to look after."""
    sender = Sender(make_app(Settings(store_url=f"unix://{tmp_path}/nobody-listens")))
    with pytest.raises(StoreUnavailable):
        sender.send("w", "g", [Claim(JobId("0" * 24), 1)])
    sender.close()
