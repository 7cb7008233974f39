"""Settings come from the environment; a bad value names its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.settings import (
    MAX_SOCKET_PATH_BYTES,
    SettingError,
    Settings,
    parse_bytes,
    read_settings,
    variables,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def test_an_empty_environment_gives_the_defaults() -> None:
    """The platform runs without any setting."""
    assert read_settings({}) == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1048576", 2**20), ("150MB", 150 * 10**6), ("2GiB", 2**31), ("1.5 kib", 1536), ("3B", 3)],
)
def test_bytes_are_written_as_people_write_them(text: str, expected: int) -> None:
    """Powers of ten and of two."""
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FUSEBOX_PORT", "http"),
        ("FUSEBOX_PORT", "70000"),
        ("FUSEBOX_MEMORY_BUDGET", "lots"),
        ("FUSEBOX_MEMORY_BUDGET", "-1"),
        ("FUSEBOX_HOST_BUDGET", "half"),
        ("FUSEBOX_EVICTION", "random"),
        ("FUSEBOX_DEVICE", "gpu"),
        ("FUSEBOX_WORKERS", "-1"),
        ("FUSEBOX_ARTIFACTS", "ftp://host"),
        ("FUSEBOX_ARTIFACTS", "file://"),
        ("FUSEBOX_LEASE_S", "nan"),
        ("FUSEBOX_LEASE_S", "0"),
        ("FUSEBOX_FSYNC", "never"),
        ("FUSEBOX_AUTH", "no"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ],
)
def test_a_bad_value_names_the_variable(variable: str, value: str) -> None:
    """And says what was expected."""
    with pytest.raises(SettingError, match=rf"^{variable}: expected .*, got '{value}'$"):
        read_settings({variable: value})


def test_the_socket_path_stays_short_enough(tmp_path: Path) -> None:
    """However deep the data folder lies."""
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 8)
    for data in (Path("d"), deep):
        path = Settings(data=data).socket_path
        assert len(str(path)) <= MAX_SOCKET_PATH_BYTES
    assert Settings(data=deep).socket_path == Settings(data=deep).socket_path


def test_every_setting_is_documented_with_its_default() -> None:
    """`docs/settings.md` is the table of settings."""
    text = DOCS.read_text()
    missing = [name for name in variables() if f"| `{name}` |" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("host", "auth", "expected"),
    [
        ("127.0.0.1", "auto", False),
        ("127.8.8.8", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("192.168.1.7", "auto", True),
        ("gpu-box", "auto", True),
        ("127.0.0.1", "on", True),
        ("0.0.0.0", "off", False),
    ],
)
def test_keys_are_asked_for_where_others_can_reach(host: str, auth: str, expected: bool) -> None:
    """Unless it is said otherwise."""
    settings = read_settings({"FUSEBOX_HOST": host, "FUSEBOX_AUTH": auth})
    assert settings.is_guarded == expected
