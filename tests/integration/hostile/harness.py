"""Cases of hostile input as data, and how an answer to one is judged."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, NamedTuple

from bench._platform import Platform

# An answer that takes longer is a wrong one. The slowest case waits for a time limit of 1 s.
ANSWER_S = 30.0
# What allocators keep of freed memory; a bomb that went off is hundreds of megabytes.
MARGIN_BYTES = 96 * 2**20
MEMBERS = {"type", "title", "status", "detail", "instance", "code"}


class Case(NamedTuple):
    """A request, byte by byte, and the refusal it must get."""

    name: str
    request: bytes
    status: int
    # must stand in the problem document's detail
    about: str = ""
    # sent one by one, a little apart; the request stays unfinished
    drips: Sequence[bytes] = ()


class Reply(NamedTuple):
    """What came back."""

    status: int
    content_type: str
    document: Any
    took_s: float


def request(
    method: str, path: str, headers: dict[str, str], body: bytes, *, length: int | None = None
) -> bytes:
    """An HTTP/1.1 request of one connection; `length` lies about the body."""
    fields = {"Host": "a", "Connection": "close", "Content-Length": str(len(body))} | headers
    if length is not None:
        fields["Content-Length"] = str(length)
    if "Transfer-Encoding" in fields:
        del fields["Content-Length"]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def answer(platform: Platform, case: Case) -> Reply:
    """Send a case's request and read the first response."""
    host, port = platform.url.removeprefix("http://").split(":")
    began_s = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=ANSWER_S) as client:
        try:
            client.sendall(case.request)
            if case.drips:
                _drip(client, case.drips)
            else:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all of it was read: the response is there all the same
        with HTTPResponse(client) as response:
            response.begin()
            try:
                body = response.read()
            except IncompleteRead as error:
                body = error.partial
            content_type = response.headers.get("Content-Type", "")
            return Reply(response.status, content_type, _json(body), time.monotonic() - began_s)


def _drip(client: socket.socket, drips: Sequence[bytes]) -> None:
    client.settimeout(0.1)
    for drip in drips:
        client.sendall(drip)
        try:
            if client.recv(1, socket.MSG_PEEK) is not None:
                break  # answered, or closed
        except TimeoutError:
            continue
    client.settimeout(ANSWER_S)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


def faults(case: Case, reply: Reply) -> list[str]:
    """What is wrong with the answer to a case; nothing, if it is the refusal it must be."""
    found = []
    document = reply.document
    if reply.status != case.status:
        found.append(f"status {reply.status}, expected {case.status}")
    if reply.took_s > ANSWER_S:
        found.append(f"took {reply.took_s:.1f} s")
    if reply.content_type != "application/problem+json" or not isinstance(document, dict):
        return [f"{case.name}: {fault}" for fault in [*found, f"no problem: {document!r:.300}"]]
    if not document.keys() >= MEMBERS or document["status"] != reply.status:
        found.append(f"members {sorted(document)}")
    if case.about not in str(document.get("detail")):
        found.append(f"detail {document.get('detail')!r:.300} is not about {case.about!r}")
    if len(str(document)) > 4_000:
        found.append("the document repeats what was sent")
    return [f"{case.name}: {fault} ({document.get('detail')!r:.200})" for fault in found]


def resident_bytes(platform: Platform) -> int:
    """Resident bytes of the platform's gateway and worker."""
    family, total = {platform.process.pid}, 0
    parents = {pid: _parent(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    while new := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= new
    for pid in family:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue  # it has just ended
        if {b"gateway.server", b"workers.worker"} & set(words):
            total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def note(name: str, tried: int, wrong: int) -> None:
    """Add a line to the table of docs/reliability.md, where one is being made."""
    path = os.environ.get("FUSEBOX_RELIABILITY")
    if path:
        record = {"kind": "hostile", "class": name, "tried": tried, "wrong": wrong}
        with Path(path).open("a") as file:
            file.write(json.dumps(record) + "\n")
