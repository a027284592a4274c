import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.envelope import (
    ENVELOPE_LIMIT_BYTES,
    Envelope,
    Signature,
    SignatureError,
    pae,
    parse_envelope,
)
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey

TYPE = "application/vnd.s3ml.test+json"


@pytest.fixture
def keys() -> list[SigningKey]:
    return [SigningKey.generate() for _ in range(3)]


def signed(keys: list[SigningKey], payload: bytes = b"{}") -> Envelope:
    envelope = Envelope(payload_type=TYPE, payload=payload)
    for key in keys:
        envelope = envelope.with_signature(key)
    return envelope


class TestThreshold:
    """A document counts once enough distinct, named keys signed its very bytes."""

    def test_enough_signatures_give_the_payload(self, keys: list[SigningKey]) -> None:
        envelope = signed(keys[:2], b"payload")
        named = [key.public for key in keys]
        assert envelope.verify(named, threshold=2, payload_type=TYPE) == b"payload"

    def test_too_few_reject(self, keys: list[SigningKey]) -> None:
        with pytest.raises(SignatureError, match="expected 2 of the named keys, got 1"):
            signed(keys[:1]).verify([key.public for key in keys], threshold=2, payload_type=TYPE)

    def test_one_owner_twice_counts_once(self, keys: list[SigningKey]) -> None:
        envelope = signed(keys[:1])
        envelope = msgspec.structs.replace(envelope, signatures=envelope.signatures * 2)
        with pytest.raises(SignatureError, match="got 1"):
            envelope.verify([key.public for key in keys], threshold=2, payload_type=TYPE)

    def test_signing_again_replaces(self, keys: list[SigningKey]) -> None:
        assert len(signed([keys[0], keys[0]]).signatures) == 1

    def test_strangers_do_not_count(self, keys: list[SigningKey]) -> None:
        with pytest.raises(SignatureError, match="got 0"):
            signed(keys[:2]).verify([keys[2].public], threshold=1, payload_type=TYPE)

    def test_a_changed_payload_rejects(self, keys: list[SigningKey]) -> None:
        envelope = msgspec.structs.replace(signed(keys[:1]), payload=b"{} ")
        with pytest.raises(SignatureError, match="got 0"):
            envelope.verify([keys[0].public], threshold=1, payload_type=TYPE)

    def test_another_payload_type_rejects(self, keys: list[SigningKey]) -> None:
        with pytest.raises(SignatureError, match="payload type"):
            signed(keys).verify([key.public for key in keys], threshold=1, payload_type="text/plain")

    def test_a_relabelled_payload_rejects(self, keys: list[SigningKey]) -> None:
        envelope = msgspec.structs.replace(signed(keys[:1]), payload_type="text/plain")
        with pytest.raises(SignatureError, match="got 0"):
            envelope.verify([keys[0].public], threshold=1, payload_type="text/plain")

    def test_a_threshold_of_zero_accepts_nothing(self, keys: list[SigningKey]) -> None:
        with pytest.raises(SignatureError, match="threshold"):
            signed(keys).verify([key.public for key in keys], threshold=0, payload_type=TYPE)


class TestEncoding:
    """The encoding is DSSE's, and parsing is strict."""

    def test_the_pre_authentication_encoding_is_the_published_one(self) -> None:
        """Source: DSSE protocol v1.0, the example of its section on signature definition."""
        assert pae("http://example.com/HelloWorld", b"hello world") == (
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        )

    def test_it_round_trips(self, keys: list[SigningKey]) -> None:
        envelope = signed(keys)
        assert parse_envelope(envelope.to_json()) == envelope

    def test_its_field_names_are_dsse_s(self, keys: list[SigningKey]) -> None:
        assert set(msgspec.json.decode(signed(keys).to_json())) == {"payloadType", "payload", "signatures"}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"{}",
            b'{"payloadType":"x","payload":"!","signatures":[]}',
            b'{"payloadType":"x","payload":"","signatures":[],"more":1}',
            b'{"payloadType":"x","payload":"","signatures":[{"keyid":"","sig":"AAAA"}]}',
            b"\xff",
        ],
    )
    def test_malformed_rejects(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="envelope"):
            parse_envelope(data)

    def test_too_large_rejects(self) -> None:
        with pytest.raises(ConfigurationError, match="at most"):
            parse_envelope(b" " * (ENVELOPE_LIMIT_BYTES + 1))

    def test_too_many_signatures_reject(self) -> None:
        many = tuple(Signature(keyid=str(n), sig=bytes(64)) for n in range(65))
        with pytest.raises(ConfigurationError, match="at most 64"):
            parse_envelope(Envelope(payload_type="x", payload=b"", signatures=many).to_json())

    @given(st.binary(max_size=200))
    def test_anything_is_accepted_or_rejected_as_documented(self, data: bytes) -> None:
        try:
            parse_envelope(data)
        except ConfigurationError as error:
            assert str(error)
