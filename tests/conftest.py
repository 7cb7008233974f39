"""What holds for every test."""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# in these folders, files share what takes long to set up: a platform, exports of every model
TOGETHER = ["tests/e2e", "tests/unit/fusion"]


# how long an example takes says more of the machine than of what is tested
settings.register_profile("fusebox", deadline=None)
settings.load_profile("fusebox")


def pytest_configure() -> None:
    """Workers that tests start are ready at once: a warm-up is for those that stay."""
    os.environ.setdefault("FUSEBOX_WARM_UP_S", "0")


class Shares(LoadScopeScheduling):
    """One process runs the tests of a file, or of a folder whose files share their setup."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        folder, _, _ = file.rpartition("/")
        return folder if folder in TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    """Marks for `--dist loadgroup` are lost with pytest 9.2: xdist 3.8 writes them into its ids."""
    return Shares(config, log)
