"""Shares are of one signed set; what is of another, or was changed, is named before it is combined."""

from typing import Any

import msgspec
import pyrage
import pytest

from s3ml.keyservice.documents import SHARE_SET_TYPE, EncryptedShare, RecoverySharesReply, Share, ShareSet
from s3ml.keyservice.errors import RefusedError
from s3ml.keyservice.escrow import SHARES_NAME, read_shares, stored_shares
from s3ml.keyservice.escrow.shares import (
    check_shares,
    doubt_share,
    open_shares,
    piece_of,
    read_share_set,
    verify_share_set,
)
from s3ml.keyservice.escrow.splitting import combine
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from tests.keyservice.escrow_world import (
    DEPLOYMENT,
    HOLDERS,
    IDENTITIES,
    OTHER_DEPLOYMENT,
    STATEMENT,
    Escrow,
    terms,
)


@pytest.fixture
def escrow() -> Escrow:
    return Escrow()


def signed(**changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        "deployment": DEPLOYMENT,
        "threshold": 1,
        "recipients": HOLDERS[:1],
        "commitment": bytes(32),
        "digests": (bytes(32),),
    }
    payload = encode_document(ShareSet(**{**fields, **changes}))
    return Envelope(payload_type=SHARE_SET_TYPE, payload=payload).with_signature(STATEMENT)


class TestMaking:
    def test_each_holder_opens_their_own_share_alone(self, escrow: Escrow) -> None:
        for place, identity in enumerate(IDENTITIES[:3]):
            (share,) = open_shares(escrow.shares, [identity])
            assert (share.index, escrow.shares.shares[place].name) == (place + 1, HOLDERS[place].name)

    def test_any_two_give_the_key_back(self, escrow: Escrow) -> None:
        share_set = read_share_set(escrow.shares.share_set)
        for pair in ((0, 1), (0, 2), (1, 2)):
            pieces = [piece_of(share) for share in escrow.share(*pair)]
            assert combine(share_set.outline, pieces, context=share_set.context) == escrow.wrapping_key

    def test_the_terms_are_in_the_set(self, escrow: Escrow) -> None:
        document = read_share_set(escrow.shares.share_set).document
        assert (document.threshold, document.recipients) == (2, HOLDERS[:3])

    def test_nothing_that_is_shown_holds_the_key(self, escrow: Escrow) -> None:
        stored = stored_shares(escrow.shares).ciphertext
        assert escrow.wrapping_key.reveal() not in stored
        assert b"AGE-SECRET" not in stored

    def test_they_are_read_back(self, escrow: Escrow) -> None:
        stored = stored_shares(escrow.shares)
        assert stored.name == SHARES_NAME
        assert read_shares(stored.ciphertext) == escrow.shares

    def test_made_twice_they_are_two_sets(self, escrow: Escrow) -> None:
        assert (
            read_share_set(escrow.make().share_set).sha256 != read_share_set(escrow.shares.share_set).sha256
        )

    def test_sixteen_holders_fit_where_they_are_read(self, escrow: Escrow) -> None:
        names = [f"holder-{'x' * 50}-{place}" for place in range(16)]
        holders = tuple(
            msgspec.structs.replace(HOLDERS[0], name=name, recipient=str(identity.to_public()))
            for name, identity in ((name, pyrage.x25519.Identity.generate()) for name in names)
        )
        made = escrow.make(terms=terms(16, holders))
        assert read_shares(stored_shares(made).ciphertext) == made

    def test_a_share_says_nothing_of_itself(self, escrow: Escrow) -> None:
        (share,) = escrow.share(0)
        assert repr(share) == "Share(index=1, redacted)"


class TestTheSet:
    def test_it_is_the_deployments(self, escrow: Escrow) -> None:
        found = verify_share_set(
            escrow.shares.share_set, deployment=DEPLOYMENT, statement_key=STATEMENT.public
        )
        assert [found.holder(index) for index in (1, 2, 3)] == ["ada", "bo", "cy"]

    def test_signed_by_another_key(self, escrow: Escrow) -> None:
        forged = escrow.make(statement_key=SigningKey.generate())
        with pytest.raises(SignatureError):
            verify_share_set(forged.share_set, deployment=DEPLOYMENT, statement_key=STATEMENT.public)

    def test_a_changed_byte(self, escrow: Escrow) -> None:
        envelope = escrow.shares.share_set
        changed = msgspec.structs.replace(
            envelope, payload=envelope.payload.replace(b'"threshold":2', b'"threshold":1')
        )
        assert changed.payload != envelope.payload
        with pytest.raises(SignatureError):
            verify_share_set(changed, deployment=DEPLOYMENT, statement_key=STATEMENT.public)

    def test_of_another_deployment(self) -> None:
        with pytest.raises(RefusedError, match=f"deployment: expected {OTHER_DEPLOYMENT}, got {DEPLOYMENT}"):
            verify_share_set(signed(), deployment=OTHER_DEPLOYMENT, statement_key=STATEMENT.public)

    def test_another_document(self) -> None:
        envelope = Envelope(payload_type="application/other", payload=signed().payload)
        with pytest.raises(ConfigurationError, match="share set: expected"):
            read_share_set(envelope)

    def test_what_is_no_set(self) -> None:
        with pytest.raises(DocumentMalformedError):
            read_share_set(Envelope(payload_type=SHARE_SET_TYPE, payload=b"{}"))

    @pytest.mark.parametrize(
        ("change", "told"),
        [({"digests": (bytes(32), bytes(32))}, "a digest for each of 1"), ({"threshold": 2}, "threshold")],
    )
    def test_it_contradicts_itself(self, change: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigurationError, match=told):
            read_share_set(signed(**change))


class TestOpening:
    def test_an_identity_that_opens_none(self, escrow: Escrow) -> None:
        with pytest.raises(ConfigurationError, match="age identity 2: opens none of these shares; they are"):
            open_shares(escrow.shares, [IDENTITIES[0], IDENTITIES[4]])

    def test_the_same_identity_twice_opens_one_share(self, escrow: Escrow) -> None:
        assert len(escrow.share(1, 1)) == 1

    def test_they_come_in_order(self, escrow: Escrow) -> None:
        assert [share.index for share in escrow.share(2, 0)] == [1, 3]

    @pytest.mark.parametrize("step", [7])
    def test_a_changed_byte_of_the_container(self, escrow: Escrow, step: int) -> None:
        """age authenticates what it encrypts: whatever byte was changed, nothing opens."""
        original = escrow.shares.shares[0]
        for place in range(0, len(original.ciphertext), step):
            data = bytearray(original.ciphertext)
            data[place] ^= 1
            changed = EncryptedShare(index=1, name="ada", ciphertext=bytes(data))
            reply = msgspec.structs.replace(escrow.shares, shares=(changed,))
            with pytest.raises(ConfigurationError, match="opens none"):
                open_shares(reply, [IDENTITIES[0]])

    def test_what_is_encrypted_is_no_share(self, escrow: Escrow) -> None:
        recipient = pyrage.x25519.Recipient.from_str(HOLDERS[0].recipient)
        other = EncryptedShare(index=1, name="ada", ciphertext=pyrage.encrypt(b"{}", [recipient]))
        reply = msgspec.structs.replace(escrow.shares, shares=(other,))
        with pytest.raises(DocumentMalformedError, match="share 1 of ada"):
            open_shares(reply, [IDENTITIES[0]])

    def test_stored_bytes_that_are_no_shares(self) -> None:
        with pytest.raises(DocumentMalformedError, match="recovery shares"):
            read_shares(b"{}")


class TestAWrongShare:
    def doubts(self, share: Share, escrow: Escrow) -> list[str]:
        return [one.claim for one in doubt_share(share, read_share_set(escrow.shares.share_set))]

    def test_a_right_one(self, escrow: Escrow) -> None:
        assert self.doubts(escrow.share(0)[0], escrow) == []

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"deployment": OTHER_DEPLOYMENT}, "share 2 of bo: deployment"),
            ({"share_set": "ab" * 32}, "share 2 of bo: share set"),
            ({"threshold": 1}, "share 2 of bo: threshold"),
            ({"value": bytes(64)}, "share 2 of bo: value"),
            ({"index": 1}, "share 1 of ada: value"),
            ({"index": 4}, "share 4: number"),
        ],
    )
    def test_each_field(self, escrow: Escrow, change: dict[str, Any], told: str) -> None:
        share = msgspec.structs.replace(escrow.share(1)[0], **change)
        assert self.doubts(share, escrow) == [told]

    def test_of_an_older_set_of_the_same_key(self, escrow: Escrow) -> None:
        older = escrow.share(0, 1)
        escrow.shares = escrow.make()
        with pytest.raises(RefusedError, match=r"share 1 of ada: share set.*share 2 of bo: share set"):
            check_shares(older, read_share_set(escrow.shares.share_set))

    def test_messages_hold_no_value(self, escrow: Escrow) -> None:
        share = msgspec.structs.replace(escrow.share(0)[0], index=2)
        (doubt,) = doubt_share(share, read_share_set(escrow.shares.share_set))
        assert (doubt.expected, doubt.got) == ("what the set commits to", "another")

    def test_a_reply_with_shares_swapped(self, escrow: Escrow) -> None:
        """Numbers and names beside the ciphertexts are hints; what counts is inside."""
        first, second, third = escrow.shares.shares
        swapped = RecoverySharesReply(
            share_set=escrow.shares.share_set,
            shares=(
                msgspec.structs.replace(first, ciphertext=second.ciphertext),
                msgspec.structs.replace(second, ciphertext=first.ciphertext),
                third,
            ),
        )
        assert [share.index for share in escrow.share(0, 1, shares=swapped)] == [1, 2]
