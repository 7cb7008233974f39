"""Every setting of the platform: one frozen record, read in entry points."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

# sun_path holds 108 bytes including the final NUL.
MAX_SOCKET_PATH_BYTES = 107
ARTIFACT_SCHEMES = ("file", "s3", "http", "https")
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
_UNITS = {"b": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgt", start=1)
}


class SettingError(ValueError):
    """A setting has a value that cannot be used; the message names the variable."""


def parse_bytes(text: str) -> int:
    """Bytes as written by people: `1048576`, `150MB` (10^6), `2GiB` (2^30)."""
    match = _BYTES.fullmatch(text.strip())
    if not match:
        raise ValueError("a number of bytes such as 1048576, 150MB or 2GiB")
    number, unit = match.groups()
    return int(float(number) * _UNITS[(unit or "B").lower()])


def _int_from(low: int, high: int = 2**31) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("-?[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 10**9:
        raise ValueError("a positive number of seconds")
    return seconds


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda:\d+", text):
        raise ValueError("auto, cpu or cuda:<index>")
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(" or ".join(choices))
        return text

    return parse


def _webhook_secret(text: str) -> str:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    # as Standard Webhooks has it
    if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("whsec_ and the base64 of 24 to 64 bytes")
    return text


def _hosts_and_networks(text: str) -> tuple[str, ...]:
    words = tuple(word.strip().lower() for word in text.split(",") if word.strip())
    for word in words:
        try:
            ipaddress.ip_network(word)
        except ValueError:
            if not re.fullmatch(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?", word) or "/" in word:
                expected = "host names, addresses and networks such as 10.0.0.0/8"
                raise ValueError(expected) from None
    return words


def _artifacts_url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if scheme not in ARTIFACT_SCHEMES or not separator or not rest.strip("/"):
        raise ValueError(f"a URL of {', '.join(ARTIFACT_SCHEMES)}")
    return text.rstrip("/")


def _places(text: str) -> tuple[str, ...]:
    places = tuple(place.strip() for place in text.split(",") if place.strip())
    for place in places:
        if "://" not in place and not os.path.isabs(place):
            raise ValueError("absolute folders and URLs, separated by commas")
    return places


def _http_url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if text and (scheme not in ("http", "https") or not separator or not rest.strip("/")):
        raise ValueError("a URL of http or https")
    return text.rstrip("/")


def _from(variable: str, default: Any, parse: Callable[[str], Any], about: str) -> Any:
    return field(default=default, metadata={"variable": variable, "parse": parse, "about": about})


@dataclass(frozen=True)
class Settings:
    """The settings of one platform; `docs/settings.md` lists them, and a test keeps it true."""

    host: str = _from("FUSEBOX_HOST", "127.0.0.1", str, "address the gateway listens on")
    auth: str = _from(
        "FUSEBOX_AUTH",
        "auto",
        _one_of("auto", "on", "off"),
        "whether the gateway asks for API keys; auto: unless it listens on a loopback address",
    )
    port: int = _from("FUSEBOX_PORT", 8080, _int_from(0, 65535), "port the gateway listens on")
    data: Path = _from("FUSEBOX_DATA", Path(".fusebox"), Path, "folder of artifacts and store")  # noqa: RUF009  # Path is frozen
    store_url: str = _from(
        "REDIS_URL", "", str, "Redis 7+ or Valkey to use; empty runs the embedded server"
    )
    artifacts_url: str = _from(
        "FUSEBOX_ARTIFACTS",
        "",
        _artifacts_url,
        "URL that workers fetch artifacts from, and the gateway stores them at unless it is a "
        "gateway's: file://, s3://, http:// or https://; empty: all share FUSEBOX_DATA",
    )
    artifacts_key: str = _from(
        "FUSEBOX_ARTIFACTS_KEY", "", str, "API key that a gateway wants from who fetches artifacts"
    )
    artifact_cache_bytes: int = _from(
        "FUSEBOX_ARTIFACT_CACHE",
        64 * 2**30,
        parse_bytes,
        "bytes of fetched artifacts kept in FUSEBOX_DATA",
    )
    device: str = _from("FUSEBOX_DEVICE", "auto", _device, "device of a worker")
    workers: int = _from(
        "FUSEBOX_WORKERS", 1, _int_from(0, 256), "worker processes on this machine"
    )
    gateways: int = _from("FUSEBOX_GATEWAYS", 2, _int_from(1, 64), "gateway processes")
    memory_budget_bytes: int | None = _from(
        "FUSEBOX_MEMORY_BUDGET",
        None,
        parse_bytes,
        "bytes of device memory a worker may use; default 80 % of the device's memory",
    )
    host_budget_bytes: int | None = _from(
        "FUSEBOX_HOST_BUDGET",
        None,
        parse_bytes,
        "bytes of pinned host memory a worker on CUDA may keep copies of weights in; default a "
        "quarter of the RAM over all workers; without effect on a CPU, whose page cache is the "
        "kernel's",
    )
    eviction: str = _from(
        "FUSEBOX_EVICTION",
        "lru",
        _one_of("lru", "cost"),
        "who leaves device memory first: lru, the least recently used; cost, who saves the fewest "
        "seconds of loading per byte",
    )
    compute_threads: int = _from(
        "FUSEBOX_COMPUTE_THREADS", 0, _int_from(0, 1024), "CPU threads of a worker; 0 takes all"
    )
    compile_after: int = _from(
        "FUSEBOX_COMPILE_AFTER",
        200,
        _int_from(0),
        "runs of an architecture on the CPU after which it is compiled; 0 never compiles",
    )
    warm_up_s: int = _from(
        "FUSEBOX_WARM_UP_S",
        5,
        _int_from(0),
        "seconds a worker may run sample networks, and then build groups of its last run, before "
        "it is ready; 0 skips both",
    )
    policy: str = _from(
        "FUSEBOX_POLICY",
        "laxity",
        _one_of("laxity", "fifo", "fixed", "window", "edf", "bcedge"),
        "how the scheduler decides: laxity, deadlines and fair shares over all functions; fifo, "
        "one job at a time; fixed, window, edf and bcedge, batches of one function as published",
    )
    policy_adapts: str = _from(
        "FUSEBOX_POLICY_ADAPTS",
        "off",
        _one_of("on", "off"),
        "whether a policy that can (bcedge) goes on learning from the groups it sends",
    )
    places: int = _from("FUSEBOX_PLACES", 2, _int_from(1, 16), "groups in flight per worker")
    group_functions: int = _from(
        "FUSEBOX_GROUP_FUNCTIONS", 8, _int_from(1, 64), "functions in one group at most"
    )
    group_jobs: int = _from("FUSEBOX_GROUP_JOBS", 128, _int_from(1, 4096), "jobs in a group")
    queue_limit: int = _from(
        "FUSEBOX_QUEUE_LIMIT", 10_000, _int_from(1), "jobs that may wait over all functions"
    )
    function_queue_limit: int = _from(
        "FUSEBOX_FUNCTION_QUEUE_LIMIT", 2_000, _int_from(1), "jobs of one function that may wait"
    )
    max_waiters: int = _from(
        "FUSEBOX_MAX_WAITERS",
        5_000,
        _int_from(0),
        "requests that may wait for a result in one gateway process; more are answered 202",
    )
    max_streams: int = _from(
        "FUSEBOX_MAX_STREAMS",
        1_000,
        _int_from(0),
        "clients that may follow events of jobs in one gateway process; more are answered 503",
    )
    max_body_bytes: int = _from(
        "FUSEBOX_MAX_BODY", 64 * 2**20, parse_bytes, "largest body of an invocation"
    )
    max_artifact_bytes: int = _from(
        "FUSEBOX_MAX_ARTIFACT", 16 * 2**30, parse_bytes, "largest artifact of a deployment"
    )
    watched: tuple[str, ...] = _from(
        "FUSEBOX_WATCH",
        (),
        _places,
        "folders and URLs, separated by commas, in which triggers may watch for files; none by "
        "default",
    )
    client_timeout_s: float = _from(
        "FUSEBOX_CLIENT_TIMEOUT_S",
        20.0,
        _seconds,
        "a client may take to send its header fields, and then every 64 KiB of its body",
    )
    otlp_endpoint: str = _from(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        _http_url,
        "where spans are sent by OTLP over HTTP, such as http://HOST:4318; empty: nowhere",
    )
    result_ttl_s: float = _from("FUSEBOX_RESULT_TTL_S", 86_400.0, _seconds, "results are kept")
    lease_s: float = _from("FUSEBOX_LEASE_S", 10.0, _seconds, "a lease lasts, unless renewed")
    heartbeat_s: float = _from("FUSEBOX_HEARTBEAT_S", 1.0, _seconds, "between two heartbeats")
    max_attempts: int = _from(
        "FUSEBOX_MAX_ATTEMPTS", 3, _int_from(1, 100), "runs of a job whose worker disappears"
    )
    max_wait_s: float = _from("FUSEBOX_MAX_WAIT_S", 300.0, _seconds, "longest wait of a long poll")
    handler_timeout_s: float = _from(
        "FUSEBOX_HANDLER_TIMEOUT_S", 30.0, _seconds, "one call of a function's own hooks"
    )
    handler_memory_bytes: int = _from(
        "FUSEBOX_HANDLER_MEMORY", 4 * 2**30, parse_bytes, "address space of a handler host"
    )
    handler_idle_s: float = _from(
        "FUSEBOX_HANDLER_IDLE_S", 300.0, _seconds, "an idle handler host is stopped after"
    )
    handler_reach: str = _from(
        "FUSEBOX_HANDLER_REACH",
        "none",
        _one_of("none", "network", "all"),
        "what handler hosts reach besides their own files: none, network, all",
    )
    drain_s: float = _from("FUSEBOX_DRAIN_S", 20.0, _seconds, "a process may take to drain")
    watchdog_s: float = _from(
        "FUSEBOX_WATCHDOG_S", 30.0, _seconds, "a worker that does nothing ends itself after"
    )
    worker_memory_mark_bytes: int | None = _from(
        "FUSEBOX_WORKER_MEMORY_MARK",
        None,
        parse_bytes,
        "process memory at which a worker is replaced; default 1.5 times start and budget",
    )
    fsync: str = _from(
        "FUSEBOX_FSYNC",
        "everysec",
        _one_of("everysec", "always"),
        "when the embedded server writes its append-only file to disk",
    )
    webhook_secret: str = _from(
        "FUSEBOX_WEBHOOK_SECRET",
        "",
        _webhook_secret,
        "secret that webhooks are signed with, whsec_<base64>; empty: one is made and kept",
    )
    webhook_allow: tuple[str, ...] = _from(
        "FUSEBOX_WEBHOOK_ALLOW",
        (),
        _hosts_and_networks,
        "hosts and networks, separated by commas, that webhooks may reach though they are not "
        "public, and without TLS",
    )
    webhook_handshake: str = _from(
        "FUSEBOX_WEBHOOK_HANDSHAKE",
        "off",
        _one_of("on", "off"),
        "whether every webhook is asked first if it wants to be told",
    )
    webhook_origin: str = _from(
        "FUSEBOX_WEBHOOK_ORIGIN", "fusebox", str, "name that webhooks are asked under"
    )
    webhook_timeout_s: float = _from(
        "FUSEBOX_WEBHOOK_TIMEOUT_S", 10.0, _seconds, "one attempt of a webhook may take"
    )
    delivery_attempts: int = _from(
        "FUSEBOX_DELIVERY_ATTEMPTS", 10, _int_from(1, 100), "attempts before it is given up"
    )
    delivery_backoff_s: float = _from(
        "FUSEBOX_DELIVERY_BACKOFF_S", 2.0, _seconds, "before the second attempt; then twice that"
    )
    dlq_letters: int = _from("FUSEBOX_DLQ_LETTERS", 10_000, _int_from(1), "dead letters kept")
    dlq_bytes: int = _from(
        "FUSEBOX_DLQ_BYTES", 256 * 2**20, parse_bytes, "bytes of all dead letters kept"
    )
    dlq_ttl_s: float = _from("FUSEBOX_DLQ_TTL_S", 604_800.0, _seconds, "dead letters are kept")
    log_level: str = _from(
        "FUSEBOX_LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "least level"
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            # other names may mean any address
            return self.host == "localhost"

    @property
    def is_guarded(self) -> bool:
        """Whether the gateway asks for API keys."""
        return self.auth == "on" or (self.auth == "auto" and not self.is_loopback)

    @property
    def is_store_embedded(self) -> bool:
        """Whether the platform runs its own Redis server."""
        return not self.store_url

    @property
    def socket_path(self) -> Path:
        """The embedded server's unix socket, under the data folder if its path is short enough."""
        path = self.data.resolve() / "store.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path("/tmp") / f"fusebox-{os.getuid()}-{digest}.sock"  # noqa: S108  # named by data folder and user

    @property
    def redis_url(self) -> str:
        """The store's URL as redis-py takes it."""
        return self.store_url or f"unix://{self.socket_path}"

    @property
    def is_stored_apart(self) -> bool:
        """Whether the gateway copies artifacts to a store; one of a gateway has them already."""
        return bool(self.artifacts_url) and not self.artifacts_url.startswith("http")

    @property
    def artifacts(self) -> Path:
        """The folder that holds one folder per artifact digest."""
        return self.data / "artifacts"


def variables() -> dict[str, tuple[Any, str]]:
    """Per environment variable: its default and what it is about."""
    return {f.metadata["variable"]: (f.default, f.metadata["about"]) for f in fields(Settings)}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables; raises SettingError naming the variable."""
    values: dict[str, Any] = {}
    for spec in fields(Settings):
        text = environ.get(spec.metadata["variable"], "")
        if text == "":
            continue
        try:
            values[spec.name] = spec.metadata["parse"](text)
        except ValueError as error:
            name = spec.metadata["variable"]
            got = "something else" if name.endswith("_SECRET") else repr(text)
            raise SettingError(f"{name}: expected {error}, got {got}") from error
    return Settings(**values)
