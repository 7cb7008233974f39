"""What holds for every test."""

import os


def pytest_configure() -> None:
    """Workers that tests start are ready at once: a warm-up is for those that stay."""
    os.environ.setdefault("FUSEBOX_WARM_UP_S", "0")
