"""Hybrid Public Key Encryption in base mode: to whom a message is sealed, with export for the way back.

The key schedule is ours; KEMs, HKDF and AEADs are those of `cryptography`.

Source: RFC 9180; draft-ietf-hpke-pq-05 (KEM 0x647a).
"""

from s3ml.wire.hpke.kem import PrivateKey
from s3ml.wire.hpke.oneshot import open_once, seal_once
from s3ml.wire.hpke.schedule import Context, RecipientContext, SenderContext, setup_recipient, setup_sender
from s3ml.wire.hpke.suites import HYBRID_AES256, X25519_AES128, Aead, Kdf, Kem, Suite

__all__ = [
    "HYBRID_AES256",
    "X25519_AES128",
    "Aead",
    "Context",
    "Kdf",
    "Kem",
    "PrivateKey",
    "RecipientContext",
    "SenderContext",
    "Suite",
    "open_once",
    "seal_once",
    "setup_recipient",
    "setup_sender",
]
