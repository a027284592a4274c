"""Signed documents: DSSE envelopes, so that k of n people sign identical bytes.

What is signed is ``PAE(payload_type, payload)``, never a re-serialisation of the payload; the payload is
parsed only after its signatures have been checked.

Source: DSSE protocol v1.0 (secure-systems-lab/dsse), used by in-toto and sigstore.
"""

from collections.abc import Iterable

import msgspec

from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.signing import SIGNATURE_BYTES, SigningKey, VerifyKey
from s3ml.primitives.units import MIB

ENVELOPE_LIMIT_BYTES = 4 * MIB
SIGNATURES_LIMIT = 64


class SignatureError(UntrustedPeerError):
    """Too few of the named keys signed the document."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One signature: the signer's key id (a hint, never trusted) and 64 bytes."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """A DSSE envelope as it travels: JSON with base64 payload and signatures."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    def with_signature(self, key: SigningKey) -> "Envelope":
        """Return this envelope with `key`'s signature added, or renewed where it was there already."""
        mine = Signature(keyid=key.public.key_id, sig=key.sign(pae(self.payload_type, self.payload)))
        others = tuple(s for s in self.signatures if s.keyid != mine.keyid)
        return msgspec.structs.replace(self, signatures=(*others, mine))

    def signers(self, keys: Iterable[VerifyKey]) -> frozenset[str]:
        """Return the ids of those of `keys` whose signature over the payload holds."""
        message = pae(self.payload_type, self.payload)
        by_id = {key.key_id: key for key in keys}
        return frozenset(
            s.keyid for s in self.signatures if s.keyid in by_id and by_id[s.keyid].is_signed(s.sig, message)
        )

    def verify(self, keys: Iterable[VerifyKey], *, threshold: int, payload_type: str) -> bytes:
        """Return the payload, signed by at least `threshold` distinct keys of `keys`.

        Raises:
            SignatureError: another payload type, or too few signatures that hold.
        """
        if self.payload_type != payload_type:
            raise SignatureError(f"payload type: expected {payload_type}, got {self.payload_type[:100]}")
        if threshold < 1:
            raise SignatureError("threshold: expected at least 1")
        signers = self.signers(keys)
        if len(signers) < threshold:
            raise SignatureError(f"signatures: expected {threshold} of the named keys, got {len(signers)}")
        return self.payload

    def to_json(self) -> bytes:
        """Return the envelope as JSON."""
        return msgspec.json.encode(self)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of `payload`."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes) -> Envelope:
    """Parse an envelope from an untrusted peer, at most 4 MiB.

    Raises:
        ConfigurationError: too large, malformed, or with more than 64 signatures.
    """
    if len(data) > ENVELOPE_LIMIT_BYTES:
        raise ConfigurationError(f"envelope: expected at most {ENVELOPE_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"envelope: {error}") from error
    if len(envelope.signatures) > SIGNATURES_LIMIT:
        raise ConfigurationError(f"envelope: expected at most {SIGNATURES_LIMIT} signatures")
    if any(len(s.sig) != SIGNATURE_BYTES for s in envelope.signatures):
        raise ConfigurationError(f"envelope: expected signatures of {SIGNATURE_BYTES} bytes")
    return envelope
