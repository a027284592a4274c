"""Inside the TEE: k right shares for this very request give the key back once, and nothing else does."""

import traceback

import msgspec
import pytest

from s3ml.keyservice.documents import (
    Contribution,
    ContributionRequest,
    RecoveryRequestReply,
    Share,
)
from s3ml.keyservice.errors import ConflictError, RefusedError
from s3ml.keyservice.escrow import Collector, Findings
from s3ml.keyservice.escrow.binding import contribution_info, request_binding
from s3ml.keyservice.escrow.shares import ReadSet, read_share_set
from s3ml.keyservice.escrow.splitting import PieceRejectedError
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.wire.hpke import HYBRID_AES256, seal_once
from tests.keyservice.escrow_world import (
    DEPLOYMENT,
    HOLDERS,
    NAMES,
    OTHER_DEPLOYMENT,
    Escrow,
    terms,
    without_a_key,
)


@pytest.fixture
def escrow() -> Escrow:
    return Escrow()


def collector_of(escrow: Escrow, reply: RecoveryRequestReply) -> Collector:
    verified = escrow.verify(reply)
    return escrow.intake._table[verified.request_id].collector


def given_by(collector: Collector) -> SecretBytes:
    taken: list[SecretBytes] = []
    collector.hand_over(taken.append)
    (key,) = taken
    return key


def sealed(reply: RecoveryRequestReply, request_id: str, *shares: Share) -> ContributionRequest:
    """Seal shares as a holder's tool does, without its checks."""
    request = reply.request
    data = request_binding(request).report_data()
    return ContributionRequest(
        request=request_id,
        sealed=seal_once(
            HYBRID_AES256,
            request.public_key,
            encode_document(Contribution(shares=shares)),
            info=contribution_info(request.purpose, data),
        ),
    )


class TestEnoughShares:
    def test_any_two_of_three(self, escrow: Escrow) -> None:
        for pair in ((0, 1), (2, 0), (1, 2)):
            escrow.lose_everything()
            reply = escrow.ask()
            collector = collector_of(escrow, reply)
            first = collector.add(escrow.contribution(reply, pair[0]))
            assert (first.missing, first.is_complete) == (1, False)
            second = collector.add(escrow.contribution(reply, pair[1]))
            assert second.is_complete
            assert second.contributed == tuple(NAMES[place] for place in sorted(pair))
            assert given_by(collector) == escrow.wrapping_key

    def test_three_of_five(self) -> None:
        escrow = Escrow(terms=terms(3, HOLDERS))
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        for holder in (4, 0, 2):
            collector.add(escrow.contribution(reply, holder))
        assert given_by(collector) == escrow.wrapping_key

    def test_more_than_enough(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        assert collector.add(escrow.contribution(reply, 0, 1, 2)).missing == 0
        assert given_by(collector) == escrow.wrapping_key

    def test_the_key_leaves_once(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0, 1))
        given_by(collector)
        with pytest.raises(ConflictError, match="another request"):
            given_by(collector)
        with pytest.raises(ConflictError, match="its request is over"):
            collector.add(escrow.contribution(reply, 2))

    def test_a_taker_that_is_unavailable_may_try_again(self, escrow: Escrow) -> None:
        """Storage is away just then: no holder has to be asked a second time."""
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0, 1))

        def away(_: SecretBytes) -> None:
            raise UnavailableError("storage: away")

        with pytest.raises(UnavailableError):
            collector.hand_over(away)
        assert given_by(collector) == escrow.wrapping_key

    def test_a_taker_that_finds_the_key_wrong_ends_it(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0, 1))

        def wrong(_: SecretBytes) -> None:
            raise StorageTamperedError("stored keys: do not open")

        with pytest.raises(StorageTamperedError):
            collector.hand_over(wrong)
        with pytest.raises(ConflictError):
            given_by(collector)

    def test_too_few(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0))
        with pytest.raises(ConflictError, match="expected 1 more share"):
            given_by(collector)
        collector.add(escrow.contribution(reply, 1))
        assert given_by(collector) == escrow.wrapping_key


class TestAContribution:
    def test_a_duplicate_counts_once(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        first = collector.add(escrow.contribution(reply, 0))
        assert collector.add(escrow.contribution(reply, 0)) == first

    def test_a_replay_counts_once(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector, contribution = collector_of(escrow, reply), escrow.contribution(reply, 0)
        assert collector.add(contribution) == collector.add(contribution)

    def test_one_share_twice_in_one_contribution(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        (share,) = escrow.share(0)
        assert collector.add(sealed(reply, collector.request_id, share, share)).missing == 1

    def test_for_another_request(self, escrow: Escrow) -> None:
        older = escrow.contribution(escrow.ask(), 0)
        escrow.lose_everything()
        collector = collector_of(escrow, escrow.ask())
        with pytest.raises(ConflictError, match=f"is for request {older.request}, not for"):
            collector.add(older)

    def test_for_another_request_under_this_ones_id(self, escrow: Escrow) -> None:
        older = escrow.contribution(escrow.ask(), 0)
        escrow.lose_everything()
        collector = collector_of(escrow, escrow.ask())
        relabelled = msgspec.structs.replace(older, request=collector.request_id)
        with pytest.raises(RefusedError, match="seal: expected sealed to this request's key, for a recovery"):
            collector.add(relabelled)

    def test_for_a_rehearsal_at_a_recovery(self, escrow: Escrow) -> None:
        """Even of the same replica, and under the same key: the purpose is in what is sealed under."""
        reply = escrow.ask("rehearsal")
        held = escrow.intake._table[escrow.verify(reply).request_id].collector
        assert held._key is not None
        as_recovery = msgspec.structs.replace(reply.request, purpose="recovery")
        recovery = Collector(
            request=as_recovery, key=held._key, share_set=read_share_set(escrow.shares.share_set)
        )
        given = escrow.contribution(reply, 0, 1)
        with pytest.raises(ConflictError, match="is for request"):
            recovery.add(given)
        with pytest.raises(RefusedError, match="for a recovery, got another"):
            recovery.add(msgspec.structs.replace(given, request=recovery.request_id))

    def test_a_wrong_share_is_named_and_spoils_nothing(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0))
        wrong = msgspec.structs.replace(escrow.share(1)[0], value=bytes(64))
        with pytest.raises(RefusedError, match="share 2 of bo: value: expected what the set commits to"):
            collector.add(sealed(reply, collector.request_id, wrong))
        assert collector.progress.contributed == ("ada",)
        collector.add(escrow.contribution(reply, 1))
        assert given_by(collector) == escrow.wrapping_key

    def test_all_or_none_of_one_contribution(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        wrong = msgspec.structs.replace(escrow.share(1)[0], value=bytes(64))
        with pytest.raises(RefusedError, match="share 2 of bo"):
            collector.add(sealed(reply, collector.request_id, *escrow.share(0), wrong))
        assert collector.progress.contributed == ()

    def test_shares_of_two_sets(self, escrow: Escrow) -> None:
        older = escrow.share(0)
        escrow.shares = escrow.make()
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        with pytest.raises(RefusedError, match="share 1 of ada: share set"):
            collector.add(sealed(reply, collector.request_id, *older, *escrow.share(1)))

    def test_a_share_of_another_deployment(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        foreign = Escrow(deployment=OTHER_DEPLOYMENT).share(0)
        with pytest.raises(RefusedError, match=f"share 1 of ada: deployment: expected {DEPLOYMENT}"):
            collector.add(sealed(reply, collector.request_id, *foreign))

    def test_what_is_sealed_is_no_contribution(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        request = reply.request
        info = contribution_info("recovery", request_binding(request).report_data())
        noise = seal_once(HYBRID_AES256, request.public_key, b"{}", info=info)
        with pytest.raises(DocumentMalformedError, match="contribution"):
            collector.add(ContributionRequest(request=collector.request_id, sealed=noise))

    @pytest.mark.parametrize("size", [1, 1119, 1120, 2000])
    def test_noise(self, escrow: Escrow, size: int) -> None:
        collector = collector_of(escrow, escrow.ask())
        with pytest.raises(RefusedError, match="seal"):
            collector.add(ContributionRequest(request=collector.request_id, sealed=bytes(size)))


class TestARehearsal:
    def complete(self, escrow: Escrow) -> Collector:
        reply = escrow.ask("rehearsal")
        verified = escrow.verify(reply)
        held = escrow.intake._table[verified.request_id].collector
        assert held._key is not None
        collector = Collector(request=reply.request, key=held._key, share_set=verified.share_set)
        collector.add(escrow.contribution(reply, 0, 1))
        return collector

    def test_it_gives_no_key_out(self, escrow: Escrow) -> None:
        with pytest.raises(ConfigurationError, match="rehearsal: expected a recovery"):
            given_by(self.complete(escrow))

    def test_what_it_tried_is_wiped(self, escrow: Escrow) -> None:
        tried: list[SecretBytes] = []

        def check(key: SecretBytes) -> Findings:
            assert key == escrow.wrapping_key
            tried.append(key)
            return Findings(opened=1, failed=())

        assert self.complete(escrow).rehearse(check).opened == 1
        assert len(tried[0]) == 0

    def test_it_is_held_once(self, escrow: Escrow) -> None:
        collector = self.complete(escrow)
        collector.rehearse(escrow.check)
        with pytest.raises(ConflictError):
            collector.rehearse(escrow.check)

    def test_a_recovery_is_none(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0, 1))
        with pytest.raises(ConfigurationError, match="recovery: expected a rehearsal"):
            collector.rehearse(escrow.check)


class TestASetThatWasMadeWrongly:
    def test_nothing_is_given_out(self, escrow: Escrow) -> None:
        without_a_key(escrow)
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        collector.add(escrow.contribution(reply, 0, 1))
        with pytest.raises(PieceRejectedError, match="not what was committed to"):
            given_by(collector)

    @pytest.mark.parametrize("deployment", [DEPLOYMENT, OTHER_DEPLOYMENT])
    def test_another_set_than_the_request_names(self, escrow: Escrow, deployment: str) -> None:
        reply = escrow.ask()
        key = collector_of(escrow, reply)._key
        assert key is not None
        other: ReadSet = read_share_set(Escrow(deployment=deployment).shares.share_set)
        with pytest.raises(ConfigurationError, match="the share set that the request names"):
            Collector(request=reply.request, key=key, share_set=other)


class TestSecretsStaySecret:
    def test_in_every_refusal(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        collector = collector_of(escrow, reply)
        (share,) = escrow.share(1)
        told = []
        for change in (
            {"value": share.value[::-1]},
            {"index": 3},
            {"threshold": 9},
            {"share_set": "ab" * 32},
        ):
            wrong = msgspec.structs.replace(share, **change)
            with pytest.raises(RefusedError) as caught:
                collector.add(sealed(reply, collector.request_id, wrong))
            told += traceback.format_exception(caught.value)
        text = "".join(told) + repr(collector) + repr(share) + repr(collector.progress)
        for secret in (share.value, share.value[::-1], escrow.wrapping_key.reveal()):
            assert secret.hex() not in text
            assert repr(secret)[2:12] not in text
