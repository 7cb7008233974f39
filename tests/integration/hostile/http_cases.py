"""Requests that are not HTTP, or that two readers would understand in two ways."""

from __future__ import annotations

from tests.integration.hostile.harness import Case, request

INVOKE = "/v1/functions/echo/invoke"
JSON = {"Content-Type": "application/json"}
GOOD = b'{"inputs":{"x":[[1,2,3,4]]}}'
CHUNKED = JSON | {"Transfer-Encoding": "chunked"}


def _raw(name: str, lines: list[bytes], body: bytes = b"", about: str = "request") -> Case:
    return Case(name, b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body, 400, about)


_POST = f"POST {INVOKE} HTTP/1.1".encode()
_HOST = b"Host: a"

FRAMING = [
    _raw("no request line", [b"nonsense"]),
    _raw("HTTP/0.9", [b"GET /healthz"]),
    _raw("HTTP/2 in words", [b"GET /healthz HTTP/2.0", _HOST]),
    _raw("a version without a minor", [b"GET /healthz HTTP/1", _HOST]),
    _raw("a version that is no number", [b"GET /healthz HTTP/x.y", _HOST]),
    _raw("tabs in the request line", [b"GET\t/healthz\tHTTP/1.1", _HOST]),
    _raw("a space more", [b"GET  /healthz HTTP/1.1", _HOST]),
    _raw("a NUL in the path", [b"GET /\0 HTTP/1.1", _HOST]),
    _raw("a method of control characters", [b"G\x01T / HTTP/1.1", _HOST]),
    _raw("no host", [b"GET /healthz HTTP/1.1"], about="host"),
    _raw("two hosts", [b"GET /healthz HTTP/1.1", _HOST, b"Host: b"], about="host"),
    _raw(
        "both lengths",
        [_POST, _HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        b"0\r\n\r\n",
        "transfer-encoding",
    ),
    _raw("two lengths", [_POST, _HOST, b"Content-Length: 5", b"Content-Length: 6"], b"12345",
         "content-length"),
    _raw("equal lengths", [_POST, _HOST, b"Content-Length: 5", b"Content-Length: 5"], b"12345",
         "content-length"),
    _raw("a list of lengths", [_POST, _HOST, b"Content-Length: 5, 5"], b"12345", "content-length"),
    _raw("a negative length", [_POST, _HOST, b"Content-Length: -1"], about="content-length"),
    _raw("a signed length", [_POST, _HOST, b"Content-Length: +5"], b"12345", "content-length"),
    _raw("a hexadecimal length", [_POST, _HOST, b"Content-Length: 0x5"], b"12345"),
    _raw("a length in other digits", [_POST, _HOST, b"Content-Length: \xb2"]),
    _raw("a length of 5000 digits", [_POST, _HOST, b"Content-Length: " + b"9" * 5000]),
    _raw("a space before the colon", [_POST, _HOST, b"Content-Length : 5"], b"12345"),
    _raw("a folded header", [_POST, _HOST, b"X: a", b" Content-Length: 5"], b"12345"),
    _raw("a tab before a header", [_POST, _HOST, b"\tContent-Length: 5"], b"12345"),
    _raw("a bare CR in a header", [_POST, b"Host: a\rContent-Length: 5"], b"12345"),
    _raw("a NUL in a header", [_POST, _HOST, b"X: \0"]),
    _raw("a header without a name", [_POST, _HOST, b": a"]),
    _raw("a header without a colon", [_POST, _HOST, b"X"]),
    _raw("a header name of two words", [_POST, _HOST, b"X Y: 1"]),
    _raw("a coding before chunked", [_POST, _HOST, b"Transfer-Encoding: gzip, chunked"]),
    _raw("an unknown coding", [_POST, _HOST, b"Transfer-Encoding: xchunked"]),
    _raw("chunked twice", [_POST, _HOST, b"Transfer-Encoding: chunked, chunked"]),
    _raw("two codings", [_POST, _HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"]),
    _raw("chunked in HTTP/1.0",
         [f"POST {INVOKE} HTTP/1.0".encode(), b"Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    _raw("101 headers", [_POST, *[b"X: 1"] * 101], about="100"),
    _raw("a header of 9000 bytes", [_POST, _HOST, b"X: " + b"a" * 9000]),
    Case("a path of 9000 bytes", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    Case("bare LF", b"GET /healthz HTTP/1.1\nHost: a\n\n", 400),
    Case("bare LF after a header", b"GET /healthz HTTP/1.1\r\nHost: a\n\r\n", 400),
    Case("headers that break off", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX", 400),
]  # fmt: skip


def _chunked(name: str, body: bytes, status: int = 400, about: str = "body") -> Case:
    return Case(name, request("POST", INVOKE, CHUNKED, body), status, about)


CHUNKS = [
    _chunked("no chunk at all", b""),
    _chunked("a chunk without a size", b"\r\n\r\n"),
    _chunked("a size that is no number", b"zz\r\n\r\n"),
    _chunked("a negative size", b"-5\r\n12345\r\n0\r\n\r\n"),
    _chunked("a size with 0x", b"0x5\r\n12345\r\n0\r\n\r\n"),
    _chunked("a size of 17 digits", b"0" * 17 + b"5\r\n12345\r\n0\r\n\r\n"),
    _chunked("a size of 64 bits", b"FFFFFFFFFFFFFFFF\r\n12345"),
    _chunked("a size of 63 bits", b"7FFFFFFFFFFFFFFF\r\n12345"),
    _chunked("a chunk that is too short", b"ff\r\n12345\r\n0\r\n\r\n"),
    _chunked("a chunk that is too long", b"3\r\n12345\r\n0\r\n\r\n"),
    _chunked("chunks without an end", b"5\r\n12345\r\n"),
    _chunked("a size that ends in LF", b"5\n12345\r\n0\r\n\r\n"),
    _chunked("a chunk that ends in LF", b"5\r\n12345\n0\r\n\r\n"),
    _chunked("a size with a space", b" 5\r\n12345\r\n0\r\n\r\n"),
    _chunked("an endless extension", b"5;" + b"a" * 20_000 + b"\r\n12345\r\n0\r\n\r\n"),
    _chunked("an endless trailer", b"0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"),
    _chunked("a trailer that is no header", b"0\r\n X\r\n\r\n"),
    _chunked("a trailer that breaks off", b"0\r\nX: a"),
    _chunked("a request behind broken chunks", b"zz\r\n" + request("GET", "/healthz", {}, b"")),
    _chunked("more than a body may hold", b"500000\r\n" + bytes(0x500000) + b"\r\n0\r\n\r\n", 413),
    _chunked("a byte a chunk, not JSON", b"1\r\n{\r\n" * 2_000 + b"0\r\n\r\n"),
]


def _lying(name: str, body: bytes, length: int, status: int, **headers: str) -> Case:
    return Case(name, request("POST", INVOKE, JSON | headers, body, length=length), status, "body")


LENGTHS = [
    _lying("a body that breaks off", GOOD[:10], len(GOOD), 400),
    _lying("a body that never comes", b"", 100, 400),
    _lying("a body shorter than itself", GOOD, len(GOOD) - 1, 400),
    _lying("a gigabyte announced", b"x", 2**30, 413),
    _lying("more than 64 bits announced", b"x", 2**70, 413),
    _lying("a gigabyte announced, asking first", b"", 2**30, 413, Expect="100-continue"),
    Case("an upload that breaks off", request(
        "PUT", "/v1/functions/new", {
            "Content-Type": "application/x-tar",
            "Content-Digest": f"sha-256=:{'A' * 43}=:",
        }, b"x", length=5000), 400, "body"),
    Case("an upload of a terabyte", request(
        "PUT", "/v1/functions/new", {
            "Content-Type": "application/x-tar",
            "Content-Digest": f"sha-256=:{'A' * 43}=:",
        }, b"x", length=2**40), 413, "body"),
    Case("an upgrade that nobody offered", request(
        "POST", INVOKE, JSON | {"Connection": "upgrade", "Upgrade": "websocket"}, GOOD[:9],
        length=len(GOOD)), 400, "body"),
]  # fmt: skip

_SLOW_HEAD = f"POST {INVOKE} HTTP/1.1\r\nHost: a\r\n".encode()
SLOW = [
    Case("a header a second", _SLOW_HEAD, 408, "header", [b"X: 1\r\n"] * 100),
    Case("a byte of a header at a time", _SLOW_HEAD, 408, "header", [b"X"] * 100),
    Case("a byte of a body at a time", _SLOW_HEAD + b"Content-Length: 5000\r\n\r\n", 408, "body",
         [b"x"] * 100),
    Case("a chunk at a time", _SLOW_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 408, "body",
         [b"1\r\nx\r\n"] * 100),
    Case("a trailer at a time", _SLOW_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", 408,
         "body", [b"X: 1\r\n"] * 100),
    Case("an upload a byte at a time",
         b"PUT /v1/functions/new HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n"
         b"Content-Type: application/x-tar\r\n"
         b"Content-Digest: sha-256=:" + b"A" * 43 + b"=:\r\n\r\n",
         408, "body", [b"x"] * 100),
]  # fmt: skip


def _path(name: str, method: str, path: str, status: int = 404) -> Case:
    return Case(name, request(method, path, JSON, b""), status)


NAMES = [
    _path(f"{method} {path}", method, path)
    for method, path in [
        ("GET", "/v1/functions/%2e%2e%2fetc"),
        ("GET", "/v1/functions/..%2f..%2fetc%2fpasswd"),
        ("GET", "/v1/functions/%00"),
        ("GET", "/v1/functions/a%0d%0aX:%201"),
        ("GET", "/v1/functions/%ff%fe"),
        ("GET", "/v1/functions/%ed%a0%80"),
        ("GET", "/v1/functions/\xc3\xa9".encode("latin-1").decode("latin-1")),
        ("GET", "/v1/functions/UPPER"),
        ("GET", "/v1/functions/" + "a" * 64),
        ("GET", "/v1/functions/echo@0"),
        ("GET", "/v1/functions/echo@1@1"),
        ("GET", "/v1/functions/echo@99999999999999999999"),
        ("POST", "/v1/functions//invoke"),
        ("POST", "/v1/functions/../invoke"),
        ("POST", "/v1/functions/%0a/invoke"),
        ("POST", "/v1/functions/e%00cho/invoke"),
        ("POST", "/v1/functions/a/b/c/invoke"),
        ("PUT", "/v1/functions/..%2fx"),
        ("PUT", "/v1/functions/x%20y"),
        ("DELETE", "/v1/functions/*"),
        ("DELETE", "/v1/functions/echo%00"),
        ("GET", "/v1/jobs/" + "0" * 25),
        ("GET", "/v1/jobs/" + "g" * 24),
        ("GET", "/v1/jobs/%00" + "0" * 23),
        ("DELETE", "/v1/jobs/*"),
        ("GET", "/static/..%2f..%2fserver.py"),
        ("GET", "/static/../server.py"),
        ("GET", "//etc/passwd"),
    ]
]
NAMES += [
    _path("a wait that is no number", "GET", "/v1/jobs/" + "0" * 24 + "?wait=x", 422),
    _path("a wait of NaN", "GET", "/v1/jobs/" + "0" * 24 + "?wait=nan", 422),
    _path("a wait of infinity", "GET", "/v1/jobs/" + "0" * 24 + "?wait=inf", 422),
    _path("a negative wait", "GET", "/v1/jobs/" + "0" * 24 + "?wait=-1", 422),
    _path("a count of 10**400", "GET", "/v1/functions/echo/logs?count=1" + "0" * 400, 422),
    _path("a count of nothing", "GET", "/v1/functions/echo/logs?count=", 422),
    _path("since NaN", "GET", "/v1/functions/echo/logs?since=NaN", 422),
    _path("a method there is not", "PATCH", "/v1/functions/echo", 405),
    _path("a method nobody knows", "BREW", "/v1/functions", 405),
    Case("an Accept of nothing we have",
         request("POST", INVOKE, JSON | {"Accept": "text/html"}, GOOD), 406, "Accept"),
    Case("an Accept of commas",
         request("POST", INVOKE, JSON | {"Accept": "," * 8000}, GOOD), 406, "Accept"),
]  # fmt: skip
