"""Signatures, held against botocore's own signer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.aws.signature import (
    Authorization,
    NotSigned,
    Request,
    canonical_request,
    check_headers,
    check_time,
    is_signed_with,
    parse_authorization,
)

KEY, SECRET = "0123456789ab", "cd" * 32
URL = "http://127.0.0.1:8080/2015-03-31/functions/f%3Aprod/invocations"
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)
HEADERS = st.dictionaries(
    st.sampled_from(["X-Amz-Invocation-Type", "X-Amz-Log-Type", "Content-Type", "X-Other"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(
        lambda text: text[:10] + "  " + text[10:] + "x"
    ),
)


@dataclass
class Signed:
    """A request as botocore signs it, and as the gateway sees it."""

    authorization: Authorization
    headers: dict[str, str]
    request: Request
    # as the signer itself made it
    canonical: str

    @property
    def holds(self) -> bool:
        """Whether the whole check passes."""
        moment = check_time(self.authorization, self.headers, time.time())
        check_headers(self.authorization, self.headers)
        return is_signed_with(SECRET, self.authorization, moment, self.request)


def signed(url: str = URL, method: str = "POST", body: bytes = b"{}", **headers: str) -> Signed:
    """A request signed by botocore with SECRET."""
    sent = AWSRequest(method, url, {"Host": "127.0.0.1:8080", **headers}, body)
    signer = SigV4Auth(Credentials(KEY, SECRET), "lambda", "eu-north-1")
    signer.add_auth(sent)
    found = {name.lower(): value for name, value in sent.headers.items()}
    parts = urlsplit(url)
    request = Request(method, parts.path, parts.query, found, body)
    # what was signed did not have the signature yet
    header = found.pop("authorization")
    del sent.headers["Authorization"]
    return Signed(parse_authorization(header), found, request, signer.canonical_request(sent))


@given(st.lists(WORDS, max_size=4), st.lists(st.tuples(WORDS, WORDS), max_size=4), HEADERS, WORDS)
def test_what_botocore_signs_is_signed(
    path: list[str], query: list[tuple[str, str]], headers: dict[str, str], body: str
) -> None:
    """Whatever path, query, headers and body are; and the canonical text is the same."""
    pairs = "&".join(f"{quote(name, '-_.~')}={quote(value, '-_.~')}" for name, value in query)
    url = f"http://127.0.0.1:8080/{'/'.join(quote(part, '-_.~') for part in path)}?{pairs}"
    found = signed(url, "PUT", body.encode(), **headers)
    names = found.authorization.signed_headers
    assert canonical_request(found.request, names) == found.canonical
    assert found.holds


def test_nothing_of_what_was_signed_may_change() -> None:
    """Method, path, query, a signed header, the body: each breaks the signature."""
    found = signed(URL + "?Qualifier=3", **{"X-Amz-Invocation-Type": "DryRun"})
    assert found.holds
    request = found.request
    for changed in (
        request._replace(method="PUT"),
        request._replace(path=request.path.replace("prod", "canary")),
        request._replace(query="Qualifier=4"),
        request._replace(headers=request.headers | {"x-amz-invocation-type": "Event"}),
        request._replace(body=b"[]"),
    ):
        moment = found.headers["x-amz-date"]
        assert not is_signed_with(SECRET, found.authorization, moment, changed), changed
        assert not is_signed_with("ef" * 32, found.authorization, moment, request)


def test_what_decides_must_be_signed() -> None:
    """An x-amz- header that somebody added on the way is refused, and so is one that got lost."""
    found = signed()
    with pytest.raises(NotSigned, match="x-amz-invocation-type must be among them"):
        check_headers(found.authorization, found.headers | {"x-amz-invocation-type": "Event"})
    without_host = found.authorization._replace(signed_headers=("x-amz-date",))
    with pytest.raises(NotSigned, match="host must be among them"):
        check_headers(without_host, found.headers)
    more = found.authorization._replace(
        signed_headers=(*found.authorization.signed_headers, "x-gone")
    )
    with pytest.raises(NotSigned, match="x-gone was signed, but did not come"):
        check_headers(more, found.headers)


@pytest.mark.parametrize("skew_s", [-301, 301, 86_400])
def test_a_signature_has_its_time(skew_s: int) -> None:
    """Five minutes either way, and no longer."""
    found = signed()
    now_s = time.time()
    for near_s in (-290, 290):
        check_time(found.authorization, found.headers, now_s + near_s)
    with pytest.raises(NotSigned, match="at most 300 s"):
        check_time(found.authorization, found.headers, now_s + skew_s)


@pytest.mark.parametrize("date", ["", "now", "20260101T000000", "20261301T000000Z", "2026é"])
def test_a_time_is_one(date: str) -> None:
    """Text that is no time is refused, naming the header."""
    found = signed()
    with pytest.raises(NotSigned, match="X-Amz-Date"):
        check_time(found.authorization, found.headers | {"x-amz-date": date}, time.time())


def test_the_credential_is_of_the_same_day() -> None:
    """The key of another day would make another signature."""
    found = signed()
    with pytest.raises(NotSigned, match="the date of Credential"):
        check_time(found.authorization._replace(date="20200101"), found.headers, time.time())


@given(st.text(max_size=200))
def test_any_header_is_read_or_refused(text: str) -> None:
    """Never another error."""
    for header in (text, f"AWS4-HMAC-SHA256 {text}", f"AWS4-HMAC-SHA256 Credential={text}"):
        with pytest.raises(NotSigned):
            parse_authorization(header)
