"""Where the parts of a quote of Intel's TEEs begin, and how they are overwritten."""

import base64
from dataclasses import dataclass

from s3ml.attestation import Technology
from tests.attestation.attestation_world import World

SIGNED_BYTES = {Technology.SGX: 48 + 384, Technology.TDX: 48 + 584}
AUTHENTICATION_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteLayout:
    """Where the parts of an honest quote begin.

    Args:
        signed: How many bytes the attestation key signs; the length of the rest follows.
        wrapping: How many bytes wrap the certification: a kind and a length with TDX.
    """

    signed: int
    wrapping: int

    @classmethod
    def of(cls, world: World) -> "QuoteLayout":
        """Return the layout of SGX quotes of version 3 or TDX quotes of version 4."""
        technology = world.evidence.technology
        return cls(signed=SIGNED_BYTES[technology], wrapping=6 if technology is Technology.TDX else 0)

    @property
    def signature(self) -> int:
        """The signature by the attestation key."""
        return self.signed + 4

    @property
    def certification(self) -> int:
        """The quoting enclave's report."""
        return self.signature + 128 + self.wrapping

    @property
    def authentication(self) -> int:
        """The length of the authentication data."""
        return self.certification + 384 + 64

    @property
    def kind(self) -> int:
        """The kind of the certification data, and their length."""
        return self.authentication + 2 + AUTHENTICATION_BYTES

    @property
    def chain(self) -> int:
        """The certificates."""
        return self.kind + 6

    def with_chain(self, quote: bytes, chain: bytes) -> bytes:
        """Replace the certificates, with lengths that fit."""
        whole = quote[: self.chain - 4] + number(len(chain)) + chain
        if self.wrapping:
            whole = patch(whole, self.certification - 4, number(len(whole) - self.certification))
        return patch(whole, self.signed, number(len(whole) - self.signature))


def number(value: int, size: int = 4) -> bytes:
    """Return a little-endian number."""
    return value.to_bytes(size, "little")


def patch(data: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes."""
    return data[:offset] + value + data[offset + len(value) :]


def pem(der: bytes) -> bytes:
    """Return a block of PEM in one line."""
    return b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(der) + b"\n-----END CERTIFICATE-----\n"
