"""One message, sealed for one recipient: ``enc || ciphertext``.

Source: RFC 9180, section 6.1.
"""

from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke.kem import PrivateKey
from s3ml.wire.hpke.schedule import setup_recipient, setup_sender
from s3ml.wire.hpke.suites import Suite


def seal_once(suite: Suite, public_key: bytes, plaintext: bytes, *, info: bytes, aad: bytes = b"") -> bytes:
    """Seal `plaintext` so that only the owner of `public_key` opens it, under the same `info` and `aad`.

    Raises:
        ConfigurationError: `public_key` is malformed.
    """
    enc, context = setup_sender(suite, public_key, info)
    return enc + context.seal(plaintext, aad)


def open_once(
    suite: Suite, private_key: PrivateKey, sealed: bytes, *, info: bytes, aad: bytes = b""
) -> bytes:
    """Open what `seal_once` made; `sealed` is from an untrusted peer.

    Raises:
        ConfigurationError: `private_key` is of another KEM than `suite`.
        SealRejectedError: it does not open.
    """
    size = suite.kem.enc_bytes
    if len(sealed) < size:
        raise SealRejectedError
    context = setup_recipient(suite, private_key, sealed[:size], info)
    return context.open(memoryview(sealed)[size:], aad)
