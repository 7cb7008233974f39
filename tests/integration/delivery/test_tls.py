"""Webhooks over TLS: the certificate is that of the name, whatever address is dialled."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import aiohttp.connector
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.delivery import State
from contract.origin import Origin
from contract.store import Store
from tests.integration.delivery.builders import LOCAL, Receiver, end, log_of
from tests.integration.store.builders import deploy

Deliver = Callable[..., None]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of LOCAL that nobody has signed but itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    # another one each time, or who trusts two of a name checks by the first
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{LOCAL} {uuid4()}")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(LOCAL)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


@pytest.fixture
def named() -> list[str]:
    """Names that clients asked for before their first byte."""
    return []


@pytest.fixture
def pem(tmp_path: Path, receiver: Receiver, named: list[str]) -> Path:
    """Has the receiver speak TLS; its certificate."""
    pem, secret = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    receiver.speak_tls(context)
    return pem


def test_the_certificate_is_checked_by_name(
    store: Store, receiver: Receiver, deliver: Deliver, pem: Path, named: list[str]
) -> None:
    """One that nobody vouches for is none; nor is one of another name."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    deliver(resolve)
    function = deploy(store)

    def told(host: str) -> tuple[State, str]:
        job = end(store, function, Origin(on_success=(f"https://{host}:{receiver.port}/",)))
        [delivery] = log_of(store, job)
        return delivery.state, delivery.error

    state, error = told(LOCAL)
    assert (state, "certificate verify failed" in error) == (State.GIVEN_UP, True)
    assert receiver.requests == []
    # what an operator does with SSL_CERT_FILE, read when aiohttp is imported
    context = aiohttp.connector._SSL_CONTEXT_VERIFIED
    assert context is not None
    context.load_verify_locations(pem)
    assert told(LOCAL) == (State.DELIVERED, "")
    assert receiver.requests[0].headers["host"] == f"{LOCAL}:{receiver.port}"
    state, error = told("other.test")
    assert (state, "certificate verify failed" in error) == (State.GIVEN_UP, True)
    assert (set(named), len(receiver.requests)) == ({LOCAL, "other.test"}, 1)
