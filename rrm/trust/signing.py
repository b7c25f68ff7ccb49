"""Keys and signatures: Ed25519 over DSSE envelopes, by securesystemslib.

A signature says that whoever holds the key has signed these bytes, and nothing of who that is: a key's owner is known
to whoever got the public key from them. A key that was made beside the certificate proves only that nothing was changed
since.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rrm.core.errors import RRMError
from rrm.core.extras import bring
from rrm.core.interrupts import interrupts_held
from rrm.store.files import write_atomically
from rrm.trust.statement import CertificateError, once

PAYLOAD = "application/vnd.in-toto+json"
NEEDS = f"signing needs securesystemslib; {bring('trust')}"


class SignatureError(RRMError, ValueError):
    """An envelope that is not signed, or by no key that was given."""


class KeyProblem(RRMError, ValueError):
    """A key that cannot be used: unreadable, unknown, expired."""


@dataclass(frozen=True)
class PublicKey:
    """Who signs, and until when."""

    name: str
    keyid: str
    pem: str
    expires: str
    """ISO 8601."""

    @property
    def expired(self) -> bool:
        """Whether its time is over, by this machine's clock."""
        return datetime.fromisoformat(self.expires) < datetime.now(UTC)


def make_key(path: Path, name: str, days: int = 365) -> PublicKey:
    """A new key pair: the private one in PATH (for its owner's eyes only), the public one in PATH.pub. Raises
    `KeyProblem` if either is there."""
    crypto = _crypto()
    public_path = path.with_name(f"{path.name}.pub")
    for one in (path, public_path):
        if one.exists():
            raise KeyProblem(f"{one} is there already; a key that was used is never written over: choose another name")
    private = crypto.Ed25519PrivateKey.generate()
    key = crypto.SSlibKey.from_crypto(private.public_key())
    expires = (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
    pem = private.public_key().public_bytes(crypto.Encoding.PEM, crypto.PublicFormat.SubjectPublicKeyInfo)
    public = PublicKey(name, key.keyid, pem.decode(), expires)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KeyProblem(f"{path} cannot be written ({error.strerror})") from error
    body = private.private_bytes(crypto.Encoding.PEM, crypto.PrivateFormat.PKCS8, crypto.NoEncryption())
    with interrupts_held():  # one without the other would be in the way of the same command again
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(body)
        write_atomically(public_path, json.dumps(vars(public), indent=2).encode() + b"\n")
    return public


def read_public(path: Path) -> PublicKey:
    """A public key's file. Raises `KeyProblem`."""
    if not path.is_file():
        raise KeyProblem(f"{path}: {'there is no such file' if not path.exists() else 'it is no file'}")
    try:
        body = path.read_text()
        if "PRIVATE KEY-----" in body[:100]:
            raise KeyProblem(f"{path} is a private key: its owner keeps it to themselves, and gives {path.name}.pub")
        key = PublicKey(**json.loads(body))
        if not all(isinstance(text, str) for text in vars(key).values()):
            raise ValueError("all that it says are texts")
        if datetime.fromisoformat(key.expires).tzinfo is None:
            raise ValueError(f"expires is {key.expires}, without a time zone")
        given = _key(key)
    except KeyProblem:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise KeyProblem(f"{path} is no public key of `rrm keys` ({type(error).__name__}: {error})") from error
    if given.keyid != key.keyid:
        raise KeyProblem(f"{path}: its keyid is another key's; it was changed")
    return key


def sign(payload: bytes, key: Path) -> bytes:
    """The envelope, as JSON, signed by a private key's file whose public one lies beside it. Raises `KeyProblem`."""
    crypto = _crypto()
    if key.suffix == ".pub" and key.is_file() and not key.with_name(f"{key.name}.pub").exists():
        raise KeyProblem(f"{key} is a public key; sign with the private one that it was made with")
    public = read_public(key.with_name(f"{key.name}.pub"))
    if public.expired:
        raise KeyProblem(f"{key}: the key was good until {public.expires}; make a new one with `rrm keys`")
    try:
        private = crypto.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyProblem(f"{key} is no private key ({error})") from error
    signer = crypto.CryptoSigner(private, _key(public))
    if crypto.SSlibKey.from_crypto(private.public_key()).keyid != public.keyid:
        raise KeyProblem(f"{key} does not belong to {key.name}.pub beside it")
    envelope = crypto.Envelope(payload, PAYLOAD, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), indent=2).encode() + b"\n"


def open_envelope(body: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """Payload and envelope, nothing verified. Raises `CertificateError`."""
    crypto = _crypto()
    try:
        given = json.loads(body, object_pairs_hook=once)
        if not isinstance(given, dict) or not {"payload", "payloadType", "signatures"} <= {*given}:
            raise ValueError("it lacks payload, payloadType or signatures")
        if extra := {*given} - {"payload", "payloadType", "signatures"}:
            raise ValueError(f"it has other fields: {', '.join(sorted(extra))}")
        for one in given["signatures"]:
            if {*one} != {"keyid", "sig"} or not all(isinstance(text, str) for text in one.values()):
                raise ValueError("a signature has keyid and sig, which are texts, and nothing else")
        envelope = crypto.Envelope.from_dict(deepcopy(given))  # it empties what it is given
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CertificateError(f"it is no DSSE envelope ({type(error).__name__}: {error})") from error
    if envelope.payload_type != PAYLOAD:
        raise CertificateError(f"its payload is {envelope.payload_type!s:.80}, not {PAYLOAD}")
    return bytes(envelope.payload), given


def check_signature(body: bytes, keys: Mapping[str, PublicKey]) -> PublicKey:
    """Which of the keys (by keyid) has signed it. Raises `SignatureError`, `KeyProblem` for an unknown or expired
    one."""
    crypto = _crypto()
    _, given = open_envelope(body)
    signers = [str(one.get("keyid", "")) for one in given["signatures"]]
    if not signers:
        raise SignatureError("it is not signed")
    known = [keys[signer] for signer in signers if signer in keys]
    if not keys:
        raise KeyProblem(
            f"no key was given, and none lies beside it: give the public key of whoever signed it with --key "
            f"(it was signed with {', '.join(signers):.100})"
        )
    if not known:
        raise KeyProblem(
            f"it was signed with a key that is not among those given ({', '.join(signers):.100}); ask its owner for "
            "the public key, and give it with --key"
        )
    envelope = crypto.Envelope.from_dict(deepcopy(dict(given)))
    good = []
    for key in known:
        try:
            envelope.verify([_key(key)], 1)
        except crypto.VerificationError:
            continue
        good.append(key)
    if not good:
        raise SignatureError(f"its signature is not of these bytes: it was changed after {known[0].name!r} signed it")
    if lasting := [key for key in good if not key.expired]:
        return lasting[0]
    raise KeyProblem(f"the key of {good[0].name!r} was good until {good[0].expires}, and is no longer")


@dataclass(frozen=True)
class _Crypto:
    """What is needed of cryptography and securesystemslib."""

    Ed25519PrivateKey: Any
    Encoding: Any
    PrivateFormat: Any
    PublicFormat: Any
    NoEncryption: Any
    load_pem_private_key: Any
    SSlibKey: Any
    CryptoSigner: Any
    Envelope: Any
    VerificationError: Any


def _crypto() -> _Crypto:
    """Late: an extra. Raises `KeyProblem` where it is not installed."""
    try:
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
    except ImportError as error:
        raise KeyProblem(f"{NEEDS} ({error})") from error
    return _Crypto(
        Ed25519PrivateKey, form.Encoding, form.PrivateFormat, form.PublicFormat, form.NoEncryption,
        form.load_pem_private_key, SSlibKey, CryptoSigner, Envelope, VerificationError,
    )  # fmt: skip


def _key(public: PublicKey) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return _crypto().SSlibKey.from_crypto(load_pem_public_key(public.pem.encode()))


def now() -> str:
    """The time in ISO 8601, to the second."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
