"""HPKE: against two other implementations, and against tampering."""

import pickle

import pytest
from cryptography.hazmat.primitives import hpke as oracle
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire import hpke
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke import (
    HYBRID_AES256,
    X25519_AES128,
    Aead,
    Kdf,
    Kem,
    PrivateKey,
    Suite,
    open_once,
    seal_once,
    setup_recipient,
    setup_sender,
)
from s3ml.wire.hpke.kem import _expand_seed, encapsulate

SUITES = [Suite(kem, Kdf.HKDF_SHA256, aead) for kem in Kem for aead in Aead]
KEYS = {kem: PrivateKey.generate(kem) for kem in Kem}
LOW_ORDER = bytes(32)

OracleKey = X25519PrivateKey | oracle.MLKEM768X25519PrivateKey
OraclePublicKey = X25519PublicKey | oracle.MLKEM768X25519PublicKey


def _name(suite: Suite) -> str:
    return f"{suite.kem.name}-{suite.aead.name}"


def _oracle_suite(suite: Suite) -> oracle.Suite:
    return oracle.Suite(
        getattr(oracle.KEM, suite.kem.name),
        oracle.KDF.HKDF_SHA256,
        getattr(oracle.AEAD, suite.aead.name),
    )


def _oracle_private(key: PrivateKey) -> OracleKey:
    if key.kem is Kem.X25519:
        return X25519PrivateKey.from_private_bytes(key.to_bytes())
    scalar, seed = _expand_seed(key.to_bytes())
    return oracle.MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(seed), X25519PrivateKey.from_private_bytes(scalar)
    )


def _oracle_public(kem: Kem, raw: bytes) -> OraclePublicKey:
    x25519 = X25519PublicKey.from_public_bytes(raw[-32:])
    if kem is Kem.X25519:
        return x25519
    return oracle.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:-32]), x25519)


class TestPackage:
    def test_exports_what_it_documents(self) -> None:
        assert set(hpke.__all__) == {
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
        }


@pytest.mark.parametrize("suite", SUITES, ids=_name)
class TestAgreementWithCryptography:
    """The one-shot HPKE of `cryptography` and ours open each other's messages."""

    def test_it_opens_ours(self, suite: Suite) -> None:
        key = KEYS[suite.kem]

        sealed = seal_once(suite, key.public, b"plaintext", info=b"info")

        assert _oracle_suite(suite).decrypt(sealed, _oracle_private(key), info=b"info") == b"plaintext"

    def test_we_open_its(self, suite: Suite) -> None:
        key = KEYS[suite.kem]

        sealed = _oracle_suite(suite).encrypt(
            b"plaintext", _oracle_public(suite.kem, key.public), info=b"info"
        )

        assert open_once(suite, key, sealed, info=b"info") == b"plaintext"


@pytest.mark.parametrize("aead", Aead, ids=lambda aead: aead.name)
class TestAgreementWithPyhpke:
    """Contexts of `pyhpke` and ours open each other's messages, in order, and export alike."""

    def _suites(self, aead: Aead) -> tuple[Suite, CipherSuite]:
        ours = Suite(Kem.X25519, Kdf.HKDF_SHA256, aead)
        theirs = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId(int(aead)))
        return ours, theirs

    def test_it_opens_ours(self, aead: Aead) -> None:
        ours, theirs = self._suites(aead)
        key = KEYS[Kem.X25519]
        enc, sender = setup_sender(ours, key.public, b"info")

        private = KEMKey.from_pyca_cryptography_key(X25519PrivateKey.from_private_bytes(key.to_bytes()))
        recipient = theirs.create_recipient_context(enc, private, b"info")

        for number in range(3):
            aad = bytes([number])
            assert recipient.open(sender.seal(b"plaintext", aad), aad) == b"plaintext"
        assert recipient.export(b"context", 40) == sender.export(b"context", 40)

    def test_we_open_its(self, aead: Aead) -> None:
        ours, theirs = self._suites(aead)
        key = KEYS[Kem.X25519]
        public = KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(key.public))
        enc, sender = theirs.create_sender_context(public, b"info")

        recipient = setup_recipient(ours, key, enc, b"info")

        for number in range(3):
            aad = bytes([number])
            assert recipient.open(sender.seal(b"plaintext", aad), aad) == b"plaintext"
        assert recipient.export(b"context", 40) == sender.export(b"context", 40)


@pytest.mark.parametrize("suite", [X25519_AES128, HYBRID_AES256], ids=_name)
class TestOpening:
    """What does not open says nothing of why."""

    @pytest.fixture
    def sealed(self, suite: Suite) -> bytes:
        return seal_once(suite, KEYS[suite.kem].public, b"plaintext", info=b"info", aad=b"aad")

    def test_what_was_sealed_opens(self, suite: Suite, sealed: bytes) -> None:
        assert open_once(suite, KEYS[suite.kem], sealed, info=b"info", aad=b"aad") == b"plaintext"

    @pytest.mark.parametrize(("info", "aad"), [(b"other", b"aad"), (b"info", b"other")])
    def test_another_purpose_does_not_open(
        self, suite: Suite, sealed: bytes, info: bytes, aad: bytes
    ) -> None:
        with pytest.raises(SealRejectedError):
            open_once(suite, KEYS[suite.kem], sealed, info=info, aad=aad)

    def test_another_key_does_not_open(self, suite: Suite, sealed: bytes) -> None:
        with pytest.raises(SealRejectedError):
            open_once(suite, PrivateKey.generate(suite.kem), sealed, info=b"info", aad=b"aad")

    @pytest.mark.parametrize("position", [0, -40, -1])
    def test_a_changed_byte_does_not_open(self, suite: Suite, sealed: bytes, position: int) -> None:
        changed = bytearray(sealed)
        changed[position] ^= 1

        with pytest.raises(SealRejectedError) as rejected:
            open_once(suite, KEYS[suite.kem], bytes(changed), info=b"info", aad=b"aad")

        assert str(rejected.value) == "sealed message: does not open"
        assert rejected.value.__cause__ is None

    def test_a_truncated_message_does_not_open(self, suite: Suite, sealed: bytes) -> None:
        for size in (0, 31, suite.kem.enc_bytes, len(sealed) - 1):
            with pytest.raises(SealRejectedError):
                open_once(suite, KEYS[suite.kem], sealed[:size], info=b"info", aad=b"aad")

    def test_a_point_of_low_order_does_not_open(self, suite: Suite, sealed: bytes) -> None:
        enc_bytes = suite.kem.enc_bytes
        changed = sealed[: enc_bytes - 32] + LOW_ORDER + sealed[enc_bytes:]

        with pytest.raises(SealRejectedError):
            open_once(suite, KEYS[suite.kem], changed, info=b"info", aad=b"aad")

    def test_an_encapsulated_secret_of_another_size_does_not_open(self, suite: Suite) -> None:
        with pytest.raises(SealRejectedError):
            setup_recipient(suite, KEYS[suite.kem], bytes(33), b"info")


class TestContexts:
    """A context keeps its place, and goes one way."""

    def test_a_rejected_message_does_not_move_the_place(self) -> None:
        key = KEYS[Kem.X25519]
        enc, sender = setup_sender(X25519_AES128, key.public, b"")
        recipient = setup_recipient(X25519_AES128, key, enc, b"")
        sealed = sender.seal(b"first")

        with pytest.raises(SealRejectedError):
            recipient.open(bytes(20))

        assert recipient.open(sealed) == b"first"

    def test_a_repeated_message_does_not_open(self) -> None:
        key = KEYS[Kem.X25519]
        enc, sender = setup_sender(X25519_AES128, key.public, b"")
        recipient = setup_recipient(X25519_AES128, key, enc, b"")
        sealed = sender.seal(b"first")
        recipient.open(sealed)

        with pytest.raises(SealRejectedError):
            recipient.open(sealed)

    def test_each_way_has_its_own_type(self) -> None:
        assert not hasattr(hpke.SenderContext, "open")
        assert not hasattr(hpke.RecipientContext, "seal")

    def test_a_key_of_another_kem_rejects(self) -> None:
        with pytest.raises(ConfigurationError, match="expected MLKEM768_X25519, got X25519"):
            setup_recipient(HYBRID_AES256, KEYS[Kem.X25519], bytes(32), b"")

    @pytest.mark.parametrize("length", [0, 8161])
    def test_an_export_out_of_range_rejects(self, length: int) -> None:
        _, sender = setup_sender(X25519_AES128, KEYS[Kem.X25519].public, b"")

        with pytest.raises(ConfigurationError, match="1 to 8160"):
            sender.export(b"", length)

    def test_shows_no_secret(self) -> None:
        _, sender = setup_sender(X25519_AES128, KEYS[Kem.X25519].public, b"")

        assert repr(sender) == "SenderContext(X25519, AES_128_GCM, redacted)"


@pytest.mark.parametrize("kem", Kem, ids=lambda kem: kem.name)
class TestKeys:
    """Keys are 32 private bytes, which show nowhere."""

    def test_a_private_key_survives_its_bytes(self, kem: Kem) -> None:
        key = PrivateKey.from_bytes(kem, KEYS[kem].to_bytes())

        assert key.public == KEYS[kem].public
        assert len(key.public) == kem.public_key_bytes

    def test_a_private_key_of_another_size_rejects(self, kem: Kem) -> None:
        with pytest.raises(ConfigurationError, match="expected 32 bytes"):
            PrivateKey.from_bytes(kem, bytes(31))

    def test_a_private_key_shows_nothing_and_is_not_pickled(self, kem: Kem) -> None:
        assert repr(KEYS[kem]) == f"PrivateKey({kem.name}, redacted)"
        with pytest.raises(TypeError):
            pickle.dumps(KEYS[kem])

    def test_a_private_key_can_be_wiped(self, kem: Kem) -> None:
        key = PrivateKey.generate(kem)

        key.wipe()

        assert key.to_bytes() == b""

    def test_a_public_key_of_another_size_rejects(self, kem: Kem) -> None:
        with pytest.raises(ConfigurationError, match=f"expected {kem.public_key_bytes} bytes"):
            encapsulate(kem, KEYS[kem].public + b"\x00")

    def test_a_public_key_of_low_order_rejects(self, kem: Kem) -> None:
        with pytest.raises(ConfigurationError, match="low order"):
            encapsulate(kem, KEYS[kem].public[:-32] + LOW_ORDER)

    def test_fresh_keys_differ(self, kem: Kem) -> None:
        assert PrivateKey.generate(kem).public != KEYS[kem].public


def test_a_hybrid_public_key_out_of_range_rejects() -> None:
    """Coefficients of an encapsulation key are below 3329 (FIPS 203, section 7.2)."""
    public = b"\xff" * 1152 + KEYS[Kem.MLKEM768_X25519].public[1152:]

    with pytest.raises(ConfigurationError, match="ML-KEM-768"):
        encapsulate(Kem.MLKEM768_X25519, public)


@given(sealed=st.binary(max_size=1400), suite=st.sampled_from([X25519_AES128, HYBRID_AES256]))
def test_anything_is_rejected_without_a_reason(sealed: bytes, suite: Suite) -> None:
    with pytest.raises(SealRejectedError):
        open_once(suite, KEYS[suite.kem], sealed, info=b"")
