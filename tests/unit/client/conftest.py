"""A gateway that answers as told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.deploy.fake_gateway import FakeGateway, serving


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A fake gateway."""
    with serving() as fake:
        yield fake
