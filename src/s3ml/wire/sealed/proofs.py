"""A caller's proof of its key: one signature over the request and over what this very request is sealed to.

It stands in the inner `authorization` field. Whoever opens the request learns a signature that is of no use
for any other: not with another content, not to another service, deployment or epoch, not sealed again.

Source: docs/spec/callers.md, section "Proofs". The idea is that of RFC 9421 (what is signed is named) and of
RFC 9449 (a proof is for one request), bound to the seal as RFC 9266 binds to TLS.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from s3ml.primitives.encoding import sha256, tagged
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.wire.ohttp import Channel
from s3ml.wire.sealed.messages import InnerRequest

SCHEME = "S3ML-Proof"
AUTHORIZATION = "authorization"
_FORM = re.compile(r"S3ML-Proof ([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{86})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whose key, and the signature that is to show it."""

    key: VerifyKey
    signature: bytes

    def is_of(self, message: bytes) -> bool:
        """Tell whether the key signed `message`."""
        return self.key.is_signed(self.signature, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSigner:
    """Proves a caller's key to one service.

    Args:
        key: The caller's.
        deployment: The deployment's id, 64 hexadecimal digits.
        service: The service that is called.
    """

    key: SigningKey
    deployment: str
    service: str

    def authorization(self, channel: Channel, request: InnerRequest) -> str:
        """Return the field for `request`, which has all its other fields already."""
        message = proof_message(channel, request, deployment=self.deployment, service=self.service)
        return f"{SCHEME} {_encode(self.key.public.raw)}.{_encode(self.key.sign(message))}"


def proof_message(channel: Channel, request: InnerRequest, *, deployment: str, service: str) -> bytes:
    """Return what a caller signs.

    Args:
        channel: What the request is sealed to.
        request: Its method, path, content and all fields but `authorization`, in their order, count.
        deployment: The deployment's id, 64 hexadecimal digits.
        service: The service that is called.
    """
    signed = [field for field in request.fields if field[0] != AUTHORIZATION]
    fields = [text.encode("ascii") for field in signed for text in field]
    return tagged(
        "S3ML caller proof v1",
        bytes.fromhex(deployment),
        service.encode("ascii"),
        channel.header,
        channel.public_key,
        channel.enc,
        request.method.encode("ascii"),
        request.path.encode("latin-1"),
        sha256(tagged("S3ML inner fields v1", *fields)),
        hashlib.sha256(request.content).digest(),
    )


def parse_proof(authorization: str) -> Proof | None:
    """Read the field of an untrusted peer; None where it is no proof in its one form."""
    match = _FORM.fullmatch(authorization)
    if match is None:
        return None
    raw, signature = (_decode(text) for text in match.groups())
    if raw is None or signature is None:
        return None
    return Proof(key=VerifyKey(raw), signature=signature)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes | None:
    """Decode base64url without padding; None where bits are left over."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if _encode(data) == text else None
