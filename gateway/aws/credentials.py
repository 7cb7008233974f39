"""The API key behind a request of the Lambda API: signed by AWS clients, or shown as it is.

The access key id is the API key's id, the secret access key what the store keeps of its secret
(`contract.access.Token.signing_secret`). A platform without keys asks nobody for a signature.
"""

from __future__ import annotations

import io
import time
from typing import Any
from urllib.parse import quote

from contract.access import KEY_ID, ApiKey
from contract.errors import Unauthorized
from gateway.aws.errors import MAX_PAYLOAD_BYTES
from gateway.aws.signature import (
    ALGORITHM,
    Authorization,
    NotSigned,
    Request,
    check_headers,
    check_time,
    is_signed_with,
    parse_authorization,
)
from gateway.door import Proof, bearer
from gateway.request_body import read_body


def credential(environ: dict[str, Any]) -> str | Proof:
    """A key that is shown, or the proof that a signature is; raises Unauthorized."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    if not header.startswith(ALGORITHM):
        return bearer(environ)
    try:
        authorization = parse_authorization(header)
    except NotSigned as error:
        raise Unauthorized(str(error), aws="IncompleteSignatureException") from None
    if not KEY_ID.fullmatch(authorization.key_id):
        raise Unauthorized("The access key id is not that of an API key.")
    return Proof(authorization.key_id, lambda key: _is_of(key, authorization, environ))


def _is_of(key: ApiKey, authorization: Authorization, environ: dict[str, Any]) -> bool:
    headers = _headers(environ)
    try:
        # first: what these refuse costs neither a body in memory nor a hash
        moment = check_time(authorization, headers, time.time())
        check_headers(authorization, headers)
    except NotSigned as error:
        raise Unauthorized(str(error), aws="InvalidSignatureException") from None
    method, body = environ["REQUEST_METHOD"], _take_body(environ)
    request = Request(method, *_target(environ), headers, body)
    if not is_signed_with(key.signing_secret, authorization, moment, request):
        raise Unauthorized(
            "The request signature we calculated does not match the signature you provided.",
            aws="InvalidSignatureException",
        )
    return True


def _target(environ: dict[str, Any]) -> tuple[str, str]:
    """Path and query as they came; servers that do not tell have the path encoded again."""
    raw: str = environ.get("RAW_URI", "")
    if not raw:
        path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/-_.~")
        return path, environ.get("QUERY_STRING", "")
    path, _, query = raw.partition("?")
    if "://" in path:
        # the absolute form, as proxies are asked
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return path, query


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers


def _take_body(environ: dict[str, Any]) -> bytes:
    """The body, which is signed too; whoever reads it afterwards finds it again."""
    body = read_body(environ, MAX_PAYLOAD_BYTES)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    return body
