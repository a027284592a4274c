import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey, VerifyKey


class TestKeys:
    """Keys are read exactly, and never shown by accident."""

    def test_a_private_key_survives_its_file(self) -> None:
        key = SigningKey.generate()
        assert SigningKey.from_pem(key.to_pem()).public == key.public

    def test_a_private_key_survives_its_raw_form(self) -> None:
        key = SigningKey.generate()
        assert SigningKey.from_raw(key.to_raw()).public == key.public

    def test_a_public_key_survives_its_line(self) -> None:
        public = SigningKey.generate().public
        assert VerifyKey.parse(f"  {public}\n") == public

    def test_repr_shows_no_secret(self) -> None:
        key = SigningKey.generate()
        assert key.to_raw().hex() not in repr(key)
        assert str(key.public) in repr(key)

    @pytest.mark.parametrize("text", ["", "rsa:AAAA", "ed25519:AAAA", "ed25519:****"])
    def test_a_bad_public_key_rejects(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="public key"):
            VerifyKey.parse(text)

    def test_a_pem_of_something_else_rejects(self) -> None:
        with pytest.raises(ConfigurationError, match="PEM"):
            SigningKey.from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")

    def test_a_key_of_another_algorithm_rejects(self) -> None:
        pem = X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(ConfigurationError, match="Ed25519"):
            SigningKey.from_pem(pem)


class TestSignatures:
    """A signature holds for one key and one message."""

    def test_it_holds(self) -> None:
        key = SigningKey.generate()
        assert key.public.is_signed(key.sign(b"m"), b"m")

    def test_it_holds_for_no_other_message(self) -> None:
        key = SigningKey.generate()
        assert not key.public.is_signed(key.sign(b"m"), b"n")

    def test_it_holds_for_no_other_key(self) -> None:
        assert not SigningKey.generate().public.is_signed(SigningKey.generate().sign(b"m"), b"m")

    def test_a_signature_of_wrong_length_does_not_hold(self) -> None:
        assert not SigningKey.generate().public.is_signed(b"short", b"m")
