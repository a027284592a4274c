"""A replica gets the secrets of a deployment from another one, each sure of the other; nobody else does."""

import ast
import dataclasses
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import s3ml
from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Binding,
    EvidenceMalformedError,
    EvidenceRejectedError,
    Tee,
    encode_policy,
    parse_evidence,
    verify_evidence,
)
from s3ml.keyservice.documents.joining import SECRETS_LIMIT_BYTES, JoinHello, JoinOffer, JoinRequest
from s3ml.keyservice.errors import BusyError, ConflictError, RefusedError
from s3ml.keyservice.joining import JoinSource, ServingStanding, seal, verify_joiner
from s3ml.keyservice.joining.source import JOIN_RATE, OFFERS
from s3ml.keyservice.joining.transcript import (
    JOINER,
    SOURCE,
    join_info,
    joiner_binding,
    request_digest,
    source_binding,
)
from s3ml.keyservice.rates import Rate
from s3ml.primitives.errors import ConfigurationError, S3MLError, UntrustedPeerError
from s3ml.primitives.secret import SecretBytes
from s3ml.transparency.note import NoteRejectedError
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, seal_once
from tests.clocks import NOW
from tests.keyservice.keyservice_join_world import (
    CACHE,
    FLAG_DEBUG,
    GENUINE,
    NEXT_POLICY,
    OTHER_CODE,
    POLICY,
    STRANGER,
    Deployment,
    Enclave,
    Exchange,
)
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, PKI, SIGNER

edit: Callable[..., Any] = msgspec.structs.replace
SIGNED_POLICY = encode_policy(
    AppraisalPolicy(
        accept=(
            Alternative(tee=Tee.SIMULATED, root=PKI.root_der, signer=SIGNER.hex(), product_id=1, min_svn=2),
        )
    )
)


@pytest.fixture
def ours() -> Deployment:
    return Deployment("ours")


@pytest.fixture
def theirs() -> Deployment:
    return Deployment("theirs")


def claims(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [one.claim for one in error.value.mismatches]


def refuses_joiner(deployment: Deployment, request: JoinRequest, *expected: str) -> None:
    """The source seals nothing to whoever sent `request`, and says why."""
    with pytest.raises(EvidenceRejectedError) as caught:
        deployment.sealed(request)
    assert claims(caught) == list(expected)


def refuses_source(exchange: Exchange, reply: Any, *expected: str) -> None:
    """The joiner opens nothing of `reply`, and says why."""
    with pytest.raises(EvidenceRejectedError) as caught:
        exchange.open(reply)
    assert claims(caught) == list(expected)


class TestTheWay:
    def test_the_joiner_gets_the_secrets(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        opened = ours.opened(exchange.session, exchange.reply)
        assert opened.secrets.reveal() == ours.secrets
        assert opened.source.measurement == KEY_SERVICE_CODE.hex()
        assert (opened.offer.log_size, opened.offer.log_root) == (4, ours.tree.root(4))

    def test_the_source_knows_whom_it_sealed_to(self, ours: Deployment) -> None:
        sealed = ours.sealed(Exchange(ours).to_request().request)
        assert sealed.enclave.measurement == KEY_SERVICE_CODE.hex()

    def test_a_log_that_grew_meanwhile_does_no_harm(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        ours.size += 1
        assert exchange.open(ours.reply(exchange.request)) == ours.secrets

    def test_a_joiner_may_have_read_further_than_the_source(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_offer()
        request = ours.answer(exchange.session, exchange.offer, size=9)
        assert exchange.open(ours.reply(request)) == ours.secrets

    def test_many_join_at_once(self, ours: Deployment) -> None:
        exchanges = [Exchange(ours).to_offer() for _ in range(5)]
        requests = [ours.answer(one.session, one.offer) for one in exchanges]
        replies = [ours.reply(request) for request in reversed(requests)]
        opened = [one.open(reply) for one, reply in zip(reversed(exchanges), replies, strict=True)]
        assert opened == [ours.secrets] * 5

    def test_secrets_have_a_limit(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        ours.secrets = bytes(SECRETS_LIMIT_BYTES)
        assert exchange.open(ours.reply(exchange.request)) == ours.secrets
        ours.secrets += b"x"
        with pytest.raises(ConfigurationError, match="at most 1048576 bytes of secrets, got 1048577"):
            ours.sealed(Exchange(ours).to_request().request)


class TestReplay:
    """Every message counts once, in its own join."""

    def test_a_replayed_hello_gains_nothing(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        again = ours.offer(exchange.hello)
        assert again.nonce != exchange.offer.nonce
        refuses_joiner(ours, edit(exchange.request, nonce=again.nonce), "report_data")

    def test_a_replayed_offer_is_answered_in_vain(self, ours: Deployment) -> None:
        offer = Exchange(ours).to_offer().offer
        other = Exchange(ours)
        refuses_joiner(ours, ours.answer(other.session, offer), "report_data")

    def test_an_offer_that_was_used_is_used_up(self, ours: Deployment) -> None:
        used = Exchange(ours).to_reply().offer
        with pytest.raises(RefusedError, match="an unanswered offer of the last 60 s"):
            ours.sealed(ours.answer(Exchange(ours).session, used))

    def test_a_replayed_request_is_refused(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        with pytest.raises(RefusedError) as caught:
            ours.sealed(exchange.request)
        assert claims(caught) == ["nonce"]

    def test_a_request_that_failed_used_its_offer_up(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        with pytest.raises(EvidenceMalformedError):
            ours.sealed(edit(exchange.request, evidence=b"{}"))
        with pytest.raises(RefusedError, match="nonce"):
            ours.sealed(exchange.request)

    def test_an_invented_nonce(self, ours: Deployment) -> None:
        with pytest.raises(RefusedError, match="nonce"):
            ours.sealed(edit(Exchange(ours).to_request().request, nonce=bytes(32)))

    def test_a_replayed_reply_opens_once(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        exchange.open()
        with pytest.raises(ConfigurationError, match="one reply to one answer"):
            exchange.open()

    def test_a_reply_of_an_earlier_join_does_not_open(self, ours: Deployment) -> None:
        old = Exchange(ours).to_reply().reply
        refuses_source(Exchange(ours).to_request(), old, "report_data")

    def test_a_reply_that_failed_used_the_session_up(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        with pytest.raises(EvidenceMalformedError):
            exchange.open(edit(exchange.reply, evidence=b"{}"))
        with pytest.raises(ConfigurationError, match="one reply to one answer"):
            exchange.open()


class TestTime:
    """What was kept back says nothing of the present."""

    def test_an_expired_offer(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        ours.clock.advance(60)
        with pytest.raises(RefusedError, match="of the last 60 s"):
            ours.sealed(exchange.request)

    def test_an_offer_that_was_kept_back(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_offer()
        ours.clock.advance(60)
        with pytest.raises(RefusedError, match="at most 60 s from hello to reply, got 60 s"):
            ours.answer(exchange.session, exchange.offer)

    def test_a_reply_that_was_kept_back(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        ours.clock.advance(90)
        with pytest.raises(RefusedError, match="got 90 s") as caught:
            exchange.open()
        assert claims(caught) == ["time"]

    def test_the_last_moment_counts(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        ours.clock.advance(59.9)
        assert exchange.open() == ours.secrets


class TestRelay:
    """Whoever stands between two replicas learns nothing and changes nothing."""

    def test_a_swapped_key_of_the_joiner(self, ours: Deployment) -> None:
        """The attacker has the source seal to a key of its own, with an honest joiner's evidence."""
        exchange = Exchange(ours)
        mine = PrivateKey.generate(Kem.MLKEM768_X25519)
        offer = ours.offer(edit(exchange.hello, public_key=mine.public))
        refuses_joiner(ours, ours.answer(exchange.session, offer), "report_data")

    def test_a_swapped_nonce_of_the_joiner(self, ours: Deployment) -> None:
        exchange = Exchange(ours)
        offer = ours.offer(edit(exchange.hello, nonce=bytes(32)))
        refuses_joiner(ours, ours.answer(exchange.session, offer), "report_data")

    def test_offers_swapped_between_two_joins(self, ours: Deployment) -> None:
        one, two = Exchange(ours).to_offer(), Exchange(ours).to_offer()
        refuses_joiner(ours, ours.answer(one.session, two.offer), "report_data")
        refuses_joiner(ours, ours.answer(two.session, one.offer), "report_data")

    def test_evidence_swapped_between_two_joins(self, ours: Deployment) -> None:
        one, two = Exchange(ours).to_request(), Exchange(ours).to_request()
        refuses_joiner(ours, edit(one.request, evidence=two.request.evidence), "report_data")

    def test_a_reply_that_was_sealed_for_another_joiner(self, ours: Deployment) -> None:
        one, two = Exchange(ours).to_reply(), Exchange(ours).to_reply()
        refuses_source(one, two.reply, "report_data")

    def test_what_was_sealed_for_another_joiner(self, ours: Deployment) -> None:
        one, two = Exchange(ours).to_reply(), Exchange(ours).to_reply()
        refuses_source(one, edit(one.reply, sealed=two.reply.sealed), "report_data")

    def test_secrets_of_the_attackers_making(self, ours: Deployment) -> None:
        """Sealed to the right key under the right transcript, beside evidence of the honest source."""
        exchange = Exchange(ours).to_reply()
        info = join_info(request_digest(exchange.hello, exchange.offer, exchange.request))
        forged = seal_once(HYBRID_AES256, exchange.hello.public_key, b"keys that I know", info=info)
        refuses_source(exchange, edit(exchange.reply, sealed=forged), "report_data")

    def test_secrets_that_an_enclave_of_the_attackers_vouches_for(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        info = join_info(request_digest(exchange.hello, exchange.offer, exchange.request))
        forged = seal_once(HYBRID_AES256, exchange.hello.public_key, b"keys that I know", info=info)
        bound = source_binding(exchange.hello, exchange.offer, exchange.request, forged).report_data()
        reply = edit(Exchange(ours).to_reply().reply, sealed=forged, evidence=STRANGER.evidence(bound))
        refuses_source(exchange, reply, "measurement")

    @pytest.mark.parametrize("field", ["policy_sha256", "log_size", "log_root", "checkpoint", "deployment"])
    def test_a_changed_offer_is_seen_at_the_latest_by_the_source(
        self, ours: Deployment, theirs: Deployment, field: str
    ) -> None:
        """Even a joiner that lets every change pass binds what it was told."""
        exchange = Exchange(ours).to_offer()
        changed = {
            "policy_sha256": "ab" * 32,
            "log_size": 3,
            "log_root": bytes(32),
            "checkpoint": ours.checkpoint() + "\u2014 w sig\n",
            "deployment": theirs.id,
        }
        offer = edit(exchange.offer, **{field: changed[field]})
        evidence = GENUINE.evidence(joiner_binding(exchange.hello, offer).report_data())
        request = JoinRequest(nonce=offer.nonce, evidence=evidence)
        refuses_joiner(ours, request, "report_data")

    def test_a_changed_request_is_seen_by_the_joiner(self, ours: Deployment) -> None:
        """Evidence can be written in many ways; the joiner answers for the one that it wrote."""
        exchange = Exchange(ours).to_request()
        spaced = edit(exchange.request, evidence=exchange.request.evidence + b" ")
        refuses_source(exchange, ours.reply(spaced), "report_data")


class TestReflection:
    """Neither side's evidence is worth anything as the other's, nor that of another exchange."""

    def test_the_joiners_evidence_is_none_of_a_source(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        refuses_source(exchange, edit(exchange.reply, evidence=exchange.request.evidence), "report_data")

    def test_a_sources_evidence_is_none_of_a_joiner(self, ours: Deployment) -> None:
        done, exchange = Exchange(ours).to_reply(), Exchange(ours).to_request()
        refuses_joiner(ours, edit(exchange.request, evidence=done.reply.evidence), "report_data")

    @staticmethod
    def with_binding(exchange: Exchange, **changes: Any) -> JoinRequest:
        binding = dataclasses.replace(joiner_binding(exchange.hello, exchange.offer), **changes)
        return JoinRequest(nonce=exchange.offer.nonce, evidence=GENUINE.evidence(binding.report_data()))

    @pytest.mark.parametrize("role", [SOURCE, "key-service", "model-server"])
    def test_a_joiner_in_another_role(self, ours: Deployment, role: str) -> None:
        exchange = Exchange(ours).to_request()
        refuses_joiner(ours, self.with_binding(exchange, role=role), "report_data")

    @pytest.mark.parametrize("purpose", ["genesis", "statement", "release", "recovery"])
    def test_evidence_of_another_purpose_joins_nothing(self, ours: Deployment, purpose: str) -> None:
        exchange = Exchange(ours).to_request()
        refuses_joiner(ours, self.with_binding(exchange, purpose=purpose), "report_data")

    def test_evidence_for_another_nonce(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        refuses_joiner(ours, self.with_binding(exchange, verifier_nonce=bytes(32)), "report_data")

    @pytest.mark.parametrize(
        "changes",
        [
            {"role": JOINER},
            {"role": "key-service"},
            {"purpose": "genesis"},
            {"purpose": "statement"},
            {"purpose": "release"},
            {"purpose": "recovery"},
            {"verifier_nonce": bytes(32)},
            {"attester_nonce": bytes(32)},
            {"deployment": bytes(32)},
            {"policy_digest": bytes(32)},
            {"log_head": bytes(32)},
        ],
        ids=str,
    )
    def test_a_source_that_binds_something_else(self, ours: Deployment, changes: dict[str, Any]) -> None:
        exchange = Exchange(ours).to_reply()
        binding = source_binding(exchange.hello, exchange.offer, exchange.request, exchange.reply.sealed)
        other = dataclasses.replace(binding, **changes).report_data()
        refuses_source(exchange, edit(exchange.reply, evidence=GENUINE.evidence(other)), "report_data")

    @pytest.mark.parametrize("purpose", ["genesis", "statement", "release", "recovery"])
    def test_evidence_of_a_join_is_worth_nothing_elsewhere(self, ours: Deployment, purpose: Any) -> None:
        exchange = Exchange(ours).to_reply()
        sides = (
            (joiner_binding(exchange.hello, exchange.offer), exchange.request.evidence),
            (
                source_binding(exchange.hello, exchange.offer, exchange.request, exchange.reply.sealed),
                exchange.reply.evidence,
            ),
        )
        for binding, evidence in sides:
            self.holds(binding, evidence)
            with pytest.raises(EvidenceRejectedError) as caught:
                self.holds(dataclasses.replace(binding, purpose=purpose), evidence)
            assert claims(caught) == ["report_data"]

    @staticmethod
    def holds(binding: Binding, evidence: bytes) -> None:
        policy = Deployment("x").standing().policy
        verify_evidence(parse_evidence(evidence), policy, report_data=binding.report_data(), now=NOW)


class TestAnotherDeployment:
    """Genuine replicas of an attacker's own deployment are strangers here, with the very same code."""

    def test_its_joiner_is_refused_at_the_door(self, ours: Deployment, theirs: Deployment) -> None:
        with pytest.raises(RefusedError) as caught:
            ours.offer(Exchange(theirs).hello)
        assert claims(caught) == ["deployment"]

    def test_its_joiner_is_refused_behind_a_changed_hello(self, ours: Deployment, theirs: Deployment) -> None:
        exchange = Exchange(theirs)
        offer = ours.offer(edit(exchange.hello, deployment=ours.id))
        mine = edit(offer, deployment=theirs.id, log_root=theirs.tree.root(4), checkpoint=theirs.checkpoint())
        refuses_joiner(ours, theirs.answer(exchange.session, mine), "report_data")

    def test_its_offer_is_refused(self, ours: Deployment, theirs: Deployment) -> None:
        exchange = Exchange(ours)
        offer = theirs.offer(edit(exchange.hello, deployment=theirs.id))
        with pytest.raises(RefusedError) as caught:
            ours.answer(exchange.session, offer)
        assert claims(caught) == ["deployment", "log_root"]

    def test_its_source_is_refused_behind_a_changed_offer(self, ours: Deployment, theirs: Deployment) -> None:
        """The joiner answers as if to ours; the attacker has its own source vouch, which binds its own id."""
        exchange = Exchange(ours).to_request()
        their_hello = edit(exchange.hello, deployment=theirs.id)
        their_offer = edit(exchange.offer, deployment=theirs.id)
        info = join_info(request_digest(exchange.hello, exchange.offer, exchange.request))
        sealed = seal_once(HYBRID_AES256, exchange.hello.public_key, theirs.secrets, info=info)
        bound = source_binding(their_hello, their_offer, exchange.request, sealed).report_data()
        reply = edit(Exchange(ours).to_reply().reply, sealed=sealed, evidence=GENUINE.evidence(bound))
        refuses_source(exchange, reply, "report_data")

    def test_a_joiner_does_not_mix_up_its_logs(self, ours: Deployment, theirs: Deployment) -> None:
        exchange = Exchange(ours).to_offer()
        with pytest.raises(RefusedError) as caught:
            ours.answer(exchange.session, exchange.offer, deployment=theirs.id)
        assert claims(caught) == ["reading"]


class TestPolicy:
    """Both sides satisfy the policy that the log says is in force, as each of them reads it."""

    def test_a_joiner_with_other_code(self, ours: Deployment) -> None:
        refuses_joiner(ours, Exchange(ours, STRANGER).to_request().request, "measurement")

    def test_a_source_with_other_code(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        refuses_source(exchange, ours.reply(exchange.request, STRANGER), "measurement")

    @pytest.mark.parametrize(
        ("enclave", "claim"),
        [
            (Enclave(svn=1), "svn"),
            (Enclave(svn=2, product_id=2), "product_id"),
            (Enclave(svn=2, signer=OTHER_CODE), "signer"),
        ],
        ids=["downgraded", "another-product", "another-signer"],
    )
    def test_an_older_version_or_another_product(
        self, ours: Deployment, enclave: Enclave, claim: str
    ) -> None:
        ours.policy = SIGNED_POLICY
        good = Enclave(svn=2)
        refuses_joiner(ours, Exchange(ours, enclave).to_request().request, claim)
        exchange = Exchange(ours, good).to_request()
        refuses_source(exchange, ours.reply(exchange.request, enclave), claim)
        exchange = Exchange(ours, good).to_request()
        assert exchange.open(ours.reply(exchange.request, good)) == ours.secrets

    def test_a_debugger_on_either_side(self, ours: Deployment) -> None:
        debugged = Enclave(flags=GENUINE.flags | FLAG_DEBUG)
        with pytest.raises(EvidenceRejectedError, match="no DEBUG"):
            ours.sealed(Exchange(ours, debugged).to_request().request)
        exchange = Exchange(ours).to_request()
        with pytest.raises(EvidenceRejectedError, match="no DEBUG"):
            exchange.open(ours.reply(exchange.request, debugged))

    def test_a_source_under_another_policy(self, ours: Deployment) -> None:
        exchange = Exchange(ours)
        ours.policy = NEXT_POLICY
        offer = ours.offer(exchange.hello)
        with pytest.raises(RefusedError) as caught:
            ours.answer(exchange.session, offer, policy_document=POLICY)
        assert claims(caught) == ["policy"]

    def test_a_policy_that_changed_since_the_offer(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        ours.policy = NEXT_POLICY
        with pytest.raises(ConflictError, match="ask for another offer"):
            ours.sealed(exchange.request)

    def test_a_policy_that_changed_while_the_joiner_was_verified(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        join = ours.source.take(exchange.request, now_s=1000.0)
        joiner = verify_joiner(join, standing=ours.standing(), now=NOW, cache=CACHE)
        admitted = ours.source.admit(joiner, now_s=1000.0)
        ours.policy = NEXT_POLICY
        with pytest.raises(ConflictError, match="ask for another offer"):
            seal(admitted, SecretBytes(b"s"), standing=ours.standing())


class TestLog:
    """A source stands at a committed head of the joiner's own log, and not before what that knows."""

    def answer(self, ours: Deployment, error: type[S3MLError], offer: Any = None, **changes: Any) -> Any:
        exchange = Exchange(ours).to_offer()
        with pytest.raises(error) as caught:
            ours.answer(exchange.session, edit(exchange.offer, **(offer or {})), **changes)
        return caught

    def test_a_stale_source(self, ours: Deployment) -> None:
        caught = self.answer(ours, RefusedError, size=9, committed_size=9)
        assert claims(caught) == ["log_size"]
        assert "at least 9 entries, which are committed, got 4" in str(caught.value)

    def test_a_source_that_is_ahead(self, ours: Deployment) -> None:
        caught = self.answer(ours, ConflictError, size=3)
        assert "the source has 4 entries, this reading 3: read on first" in str(caught.value)

    def test_a_fork(self, ours: Deployment, theirs: Deployment) -> None:
        assert claims(self.answer(ours, RefusedError, root_of=theirs.tree.root)) == ["log_root"]

    def test_a_checkpoint_of_another_key(self, ours: Deployment, theirs: Deployment) -> None:
        theirs.id = ours.id
        forged = {"checkpoint": Deployment.checkpoint(theirs)}
        self.answer(ours, NoteRejectedError, forged)

    def test_a_checkpoint_of_another_head(self, ours: Deployment) -> None:
        older = {"checkpoint": ours.checkpoint(3)}
        assert claims(self.answer(ours, RefusedError, older)) == ["checkpoint"]

    def test_all_that_is_wrong_is_said_at_once(self, ours: Deployment, theirs: Deployment) -> None:
        wrong = {"deployment": theirs.id, "policy_sha256": "ab" * 32, "log_root": bytes(32)}
        caught = self.answer(ours, RefusedError, wrong, size=9, committed_size=9)
        assert claims(caught) == ["deployment", "policy", "log_size", "log_root"]


class TestFlood:
    """Whoever may not join costs no quote, and keeps nobody from joining."""

    def test_hellos_are_bounded_in_memory(self, ours: Deployment) -> None:
        hello = Exchange(ours).hello
        for _ in range(OFFERS + 100):
            ours.offer(hello)
        assert len(ours.source) == OFFERS

    def test_an_honest_join_outlives_a_tables_worth_of_hellos(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        for _ in range(OFFERS - 1):
            ours.offer(exchange.hello)
        assert exchange.open(ours.reply(exchange.request)) == ours.secrets

    def test_one_that_a_flood_washed_away_succeeds_at_its_next_attempt(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        for _ in range(OFFERS):
            ours.offer(exchange.hello)
        with pytest.raises(RefusedError, match="nonce"):
            ours.sealed(exchange.request)
        assert Exchange(ours).to_reply().open() == ours.secrets

    def test_what_has_expired_makes_room(self, ours: Deployment) -> None:
        for _ in range(3):
            ours.offer(Exchange(ours).hello)
        ours.clock.advance(60)
        ours.offer(Exchange(ours).hello)
        assert len(ours.source) == 1

    def test_no_flood_of_strangers_costs_a_quote(self, ours: Deployment) -> None:
        """Admission, and so quoting, is behind verification: honest joiners find the whole rate unspent."""
        for _ in range(2 * JOIN_RATE.burst):
            refuses_joiner(ours, Exchange(ours, STRANGER).to_request().request, "measurement")
        for _ in range(JOIN_RATE.burst):
            assert Exchange(ours).to_reply().open() == ours.secrets

    def test_genuine_replicas_in_a_crowd_wait(self, ours: Deployment) -> None:
        ours.source = JoinSource(now_s=ours.clock.monotonic_s(), rate=Rate(per_s=0.5, burst=2))
        for _ in range(2):
            Exchange(ours).to_reply()
        with pytest.raises(BusyError, match="too many replicas join") as caught:
            ours.sealed(Exchange(ours).to_request().request)
        assert caught.value.retry_after_s == 2.0
        ours.clock.advance(2.0)
        assert Exchange(ours).to_reply().open() == ours.secrets


class TestChangedBytes:
    """A reply with a changed byte anywhere opens nothing else than what was sealed."""

    def test_in_what_is_sealed(self, ours: Deployment) -> None:
        size = len(Exchange(ours).to_reply().reply.sealed)
        for position in (*range(0, size, 97), 1119, 1120, size - 17, size - 16, size - 1):
            exchange = Exchange(ours).to_request()
            reply = ours.reply(exchange.request)
            ours.clock.advance(0.5)
            changed = bytearray(reply.sealed)
            changed[position] ^= 1
            refuses_source(exchange, edit(reply, sealed=bytes(changed)), "report_data")

    @pytest.mark.parametrize("change", [lambda sealed: sealed[:-1], lambda sealed: sealed + b"\0"])
    def test_in_its_length(self, ours: Deployment, change: Callable[[bytes], bytes]) -> None:
        exchange = Exchange(ours).to_reply()
        refuses_source(exchange, edit(exchange.reply, sealed=change(exchange.reply.sealed)), "report_data")

    def test_in_the_evidence(self, ours: Deployment) -> None:
        """Evidence can be written in many ways; whatever opens is what the source sealed."""
        ours.source = JoinSource(now_s=0.0, rate=Rate(per_s=1.0, burst=1000))
        outcomes: Counter[bool] = Counter()
        for position in range(0, len(Exchange(ours).to_reply().reply.evidence), 101):
            exchange = Exchange(ours).to_reply()
            changed = bytearray(exchange.reply.evidence)
            changed[position] ^= 1
            outcomes[self.opens(exchange, edit(exchange.reply, evidence=bytes(changed)))] += 1
        assert outcomes[False] > 10 * outcomes[True]

    @staticmethod
    def opens(exchange: Exchange, reply: Any) -> bool:
        try:
            opened = exchange.open(reply)
        except UntrustedPeerError:
            return False
        assert opened == exchange.deployment.secrets
        return True

    def test_that_nobody_vouches_for(self, ours: Deployment) -> None:
        """Should a source ever vouch for bytes that do not open, they do not open."""
        exchange = Exchange(ours).to_request()
        sealed = bytes(1120 + 16 + 4)
        bound = source_binding(exchange.hello, exchange.offer, exchange.request, sealed).report_data()
        reply = edit(Exchange(ours).to_reply().reply, sealed=sealed, evidence=GENUINE.evidence(bound))
        with pytest.raises(SealRejectedError):
            exchange.open(reply)


class TestSession:
    """A hello, an answer, an opening: each once, in this order."""

    def test_one_hello(self, ours: Deployment) -> None:
        session = ours.session()
        session.hello()
        with pytest.raises(ConfigurationError, match="one hello"):
            session.hello()

    def test_no_answer_before_the_hello(self, ours: Deployment) -> None:
        with pytest.raises(ConfigurationError, match="one answer to one hello"):
            ours.answer(ours.session(), Exchange(ours).to_offer().offer)

    def test_one_answer(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        with pytest.raises(ConfigurationError, match="one answer to one hello"):
            ours.answer(exchange.session, exchange.offer)

    def test_no_opening_before_the_answer(self, ours: Deployment) -> None:
        exchange, other = Exchange(ours), Exchange(ours).to_reply()
        with pytest.raises(ConfigurationError, match="one reply to one answer"):
            exchange.open(other.reply)

    @pytest.mark.parametrize("ends", ["opened", "refused reply", "refused offer", "no quote"])
    def test_its_key_is_wiped_whatever_came_of_it(
        self, ours: Deployment, ends: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exchange = Exchange(ours).to_offer()
        asked = exchange.session._asked
        assert asked is not None
        if ends == "refused offer":
            with pytest.raises(ConflictError):
                ours.answer(exchange.session, exchange.offer, size=1)
        elif ends == "no quote":
            monkeypatch.setattr(exchange.session, "_quote", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                ours.answer(exchange.session, exchange.offer)
        else:
            reply = ours.reply(ours.answer(exchange.session, exchange.offer))
            if ends == "opened":
                exchange.open(reply)
            else:
                with pytest.raises(EvidenceMalformedError):
                    exchange.open(edit(reply, evidence=b"x"))
        assert asked.key.to_bytes() == b""
        assert exchange.session._asked is None
        assert exchange.session._answered is None


class TestSecrecy:
    """Neither a representation nor a message nor a traceback gives anything away."""

    def test_nothing_shows(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_request()
        seed = exchange.session._answered.asked.key.to_bytes()  # type: ignore[union-attr]
        join = ours.source.take(exchange.request, now_s=1000.0)
        joiner = verify_joiner(join, standing=ours.standing(), now=NOW, cache=CACHE)
        admitted = ours.source.admit(joiner, now_s=1000.0)
        sealed = seal(admitted, SecretBytes(ours.secrets), standing=ours.standing())
        reply = sealed.reply(GENUINE.quote(sealed.report_data))
        shown = repr([exchange.session, exchange.session._answered, join, joiner, admitted, sealed])
        opened = ours.opened(exchange.session, reply)
        shown += repr([opened, opened.secrets, ours.source])
        said = reply.sealed + reply.evidence + exchange.request.evidence
        for secret in (ours.secrets, seed):
            assert secret not in said
            assert secret not in shown.encode()
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown

    def test_no_error_tells(self, ours: Deployment) -> None:
        exchange = Exchange(ours).to_reply()
        with pytest.raises(EvidenceRejectedError) as caught:
            exchange.open(edit(exchange.reply, sealed=exchange.reply.sealed + b"x"))
        told = "".join(traceback.format_exception(caught.value))
        assert ours.secrets.decode() not in told
        ours.secrets = b"s3cret" * (SECRETS_LIMIT_BYTES // 6 + 1)
        with pytest.raises(ConfigurationError) as too_many:
            ours.sealed(Exchange(ours).to_request().request)
        assert "s3cret" not in "".join(traceback.format_exception(too_many.value))


class TestKeys:
    def test_a_malformed_key_of_the_joiner_is_sealed_nothing_to(self, ours: Deployment) -> None:
        """An enclave of ours that lost its mind: everything holds but the key's own rules."""
        hello = edit(Exchange(ours).hello, public_key=b"\xff" * 1216)
        offer = ours.offer(hello)
        evidence = GENUINE.evidence(joiner_binding(hello, offer).report_data())
        with pytest.raises(ConfigurationError, match="public key"):
            ours.sealed(JoinRequest(nonce=offer.nonce, evidence=evidence))


class TestTypes:
    """Who may make what: the order of steps cannot be forgotten."""

    def makers(self, name: str) -> set[str]:
        root = Path(s3ml.__file__).parent
        return {
            str(path.relative_to(root))
            for path in root.rglob("*.py")
            if f"{name}(" in (text := path.read_text(encoding="utf-8"))
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name
        }

    @pytest.mark.parametrize("name", ["OpenOffer", "VerifiedJoiner", "AdmittedJoiner", "SealedJoin"])
    def test_steps_are_made_by_the_source_alone(self, name: str) -> None:
        assert self.makers(name) == {"keyservice/joining/source.py"}

    def test_a_standing_is_made_in_one_place_at_most(self) -> None:
        """That place asks a replica for what it serves from, which one that does not serve refuses."""
        assert len(self.makers("ServingStanding")) <= 1

    @pytest.mark.parametrize(
        "change",
        [
            {"deployment": "AB" * 32},
            {"deployment": ""},
            {"log_size": 0},
            {"log_root": b"short"},
            {"checkpoint": ""},
        ],
        ids=str,
    )
    def test_a_standing_is_at_a_committed_head(self, ours: Deployment, change: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match="standing"):
            dataclasses.replace(ours.standing(), **change)

    def test_its_policy_and_digest_are_of_one_document(self, ours: Deployment) -> None:
        standing: ServingStanding = ours.standing()
        assert (standing.policy, standing.policy_sha256) == (
            ours.reading().policy,
            ours.reading().policy_sha256,
        )
        hello: JoinHello = Exchange(ours).hello
        offer: JoinOffer = ours.offer(hello)
        assert offer.policy_sha256 == standing.policy_sha256
