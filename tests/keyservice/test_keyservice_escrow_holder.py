"""A holder gives a share to code that the deployment trusts, for what it says it is for, or to nobody."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    EvidenceMalformedError,
    EvidenceRejectedError,
    Tee,
    encode_evidence,
)
from s3ml.keyservice.documents import Outcome, OutcomeReply, RecoveryRequestReply
from s3ml.keyservice.errors import RefusedError
from s3ml.keyservice.escrow.binding import outcome_binding, request_binding
from s3ml.keyservice.escrow.holder import (
    answer,
    contribute,
    describe_request,
    read_request,
    verify_outcome,
    verify_request,
)
from s3ml.keyservice.escrow.splitting import PieceRejectedError
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.hpke import Kem, PrivateKey
from tests.keyservice.escrow_world import (
    DEPLOYMENT,
    OTHER_CODE,
    OTHER_DEPLOYMENT,
    Escrow,
    policy_of,
    quote,
    without_a_key,
)


@pytest.fixture
def escrow() -> Escrow:
    return Escrow()


def changed(reply: RecoveryRequestReply, **fields: Any) -> RecoveryRequestReply:
    return msgspec.structs.replace(reply, request=msgspec.structs.replace(reply.request, **fields))


class TestARequest:
    def test_a_right_one(self, escrow: Escrow) -> None:
        verified = escrow.verify(escrow.ask())
        assert (verified.request.purpose, verified.enclave.is_simulated) == ("recovery", True)

    def test_it_travels_as_a_file(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        assert read_request(encode_document(reply)) == reply

    def test_what_is_none(self) -> None:
        with pytest.raises(DocumentMalformedError, match="recovery request"):
            read_request(b"{}")

    @pytest.mark.parametrize(
        "fields",
        [
            {"public_key": PrivateKey.generate(Kem.MLKEM768_X25519).public},
            {"purpose": "rehearsal"},
            {"nonce": bytes(32)},
            {"asker_nonce": bytes([1]) * 32},
            {"policy_sha256": "cd" * 32},
            {"log_size": 10},
            {"log_root": bytes(32)},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_honest_evidence_for_another_field(self, escrow: Escrow, fields: dict[str, Any]) -> None:
        """Above all the key: a request that is relayed with an attacker's own key is refused."""
        with pytest.raises(EvidenceRejectedError) as rejected:
            escrow.verify(changed(escrow.ask(), **fields))
        assert [one.claim for one in rejected.value.mismatches] == ["report_data"]

    def test_of_another_deployment(self, escrow: Escrow) -> None:
        other = Escrow(deployment=OTHER_DEPLOYMENT)
        with pytest.raises(RefusedError, match="deployment of the share set: expected") as refused:
            escrow.verify(other.ask())
        assert [one.claim for one in refused.value.mismatches] == [
            "deployment",
            "deployment of the share set",
        ]

    def test_of_another_deployment_that_claims_to_be_ours(self, escrow: Escrow) -> None:
        reply = changed(Escrow(deployment=OTHER_DEPLOYMENT).ask(), deployment=DEPLOYMENT)
        with pytest.raises(RefusedError, match="deployment of the share set"):
            escrow.verify(reply)
        with pytest.raises(EvidenceRejectedError, match="report_data"):
            escrow.verify(msgspec.structs.replace(reply, shares=escrow.shares))

    def test_of_other_code(self, escrow: Escrow) -> None:
        attacker = Escrow(measurement=OTHER_CODE)
        with pytest.raises(EvidenceRejectedError, match="measurement"):
            escrow.verify(attacker.ask())

    def test_with_stale_collateral(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        late = escrow.clock.now() + timedelta(days=400)
        with pytest.raises(EvidenceRejectedError):
            escrow.verify(reply, now=late)

    def test_with_collateral_that_is_too_old_for_the_policy(self, escrow: Escrow) -> None:
        strict = policy_of(max_collateral_age_s=86_400)
        reply = escrow.ask()
        escrow.verify(reply, policy=strict)
        with pytest.raises(EvidenceRejectedError, match="collateral"):
            escrow.verify(reply, policy=strict, now=escrow.clock.now() + timedelta(days=3))

    def test_evidence_of_another_exchange(self, escrow: Escrow) -> None:
        """A quote of the same code for a release, a join or a statement is none for recovery."""
        reply = escrow.ask()
        other = msgspec.structs.replace
        binding = request_binding(reply.request)
        for purpose in ("release", "join", "statement", "genesis"):
            fields = {name: getattr(binding, name) for name in binding.__dataclass_fields__}
            data = type(binding)(**{**fields, "purpose": purpose}).report_data()
            relayed = other(reply.request, evidence=encode_evidence(quote(data)))
            with pytest.raises(EvidenceRejectedError, match="report_data"):
                escrow.verify(other(reply, request=relayed))

    def test_evidence_that_cannot_be_read(self, escrow: Escrow) -> None:
        with pytest.raises(EvidenceMalformedError):
            escrow.verify(changed(escrow.ask(), evidence=b"{}"))

    def test_with_another_share_set(self, escrow: Escrow) -> None:
        reply = msgspec.structs.replace(escrow.ask(), shares=escrow.make())
        with pytest.raises(RefusedError, match="share set: expected"):
            escrow.verify(reply)

    def test_a_real_policy_takes_no_simulation(self, escrow: Escrow) -> None:
        real = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=("ab" * 32,)),))
        with pytest.raises(EvidenceRejectedError, match="tee: expected sgx, got simulated"):
            escrow.verify(escrow.ask(), policy=real)


class TestContributing:
    def test_a_share_of_another_set(self, escrow: Escrow) -> None:
        older = escrow.share(0)
        escrow.shares = escrow.make()
        with pytest.raises(RefusedError, match="share 1 of ada: share set"):
            contribute(escrow.verify(escrow.ask()), older)

    def test_the_share_is_sealed(self, escrow: Escrow) -> None:
        (share,) = escrow.share(0)
        assert share.value not in contribute(escrow.verify(escrow.ask()), [share]).sealed

    def test_an_answer_holds_just_enough(self, escrow: Escrow) -> None:
        reply = escrow.ask()
        one = len(escrow.contribution(reply, 0).sealed)
        two = len(escrow.contribution(reply, 0, 1).sealed)
        three = answer(escrow.verify(reply), escrow.share(0, 1, 2))
        assert one < two == len(three.sealed)

    def test_an_answer_of_too_few(self, escrow: Escrow) -> None:
        with pytest.raises(ConfigurationError, match="shares: expected 2, got 1"):
            answer(escrow.verify(escrow.ask()), escrow.share(0))

    def test_an_answer_with_a_wrong_share(self, escrow: Escrow) -> None:
        wrong = msgspec.structs.replace(escrow.share(1)[0], value=bytes(64))
        with pytest.raises(RefusedError, match="share 2 of bo: value"):
            answer(escrow.verify(escrow.ask()), [*escrow.share(0), wrong])

    def test_an_answer_of_a_set_that_was_made_of_no_key(self, escrow: Escrow) -> None:
        """Even a set that its signer made wrongly is noticed before anything leaves."""
        without_a_key(escrow)
        with pytest.raises(PieceRejectedError, match="committed to"):
            answer(escrow.verify(escrow.ask()), escrow.share(0, 1))


class TestWords:
    def test_a_recovery(self, escrow: Escrow) -> None:
        told = "\n".join(describe_request(escrow.verify(escrow.ask())))
        assert "RECOVERY: given enough shares, it can act as the deployment's key service" in told
        assert escrow.measurement.hex() in told
        assert "SIMULATED" in told
        assert "2 of 3 holders are enough: ada, bo, cy." in told

    def test_a_rehearsal(self, escrow: Escrow) -> None:
        told = describe_request(escrow.verify(escrow.ask("rehearsal")))
        assert told[0].startswith("REHEARSAL")


class TestAOutcome:
    @pytest.fixture
    def held(self, escrow: Escrow) -> tuple[RecoveryRequestReply, OutcomeReply]:
        reply = escrow.ask("rehearsal")
        status = escrow.intake.contribute(escrow.contribution(reply, 0, 1))
        assert status.outcome is not None
        return reply, status.outcome

    def check(self, escrow: Escrow, reply: RecoveryRequestReply, outcome: OutcomeReply) -> int:
        verified = escrow.verify(reply)
        return verify_outcome(outcome, verified, now=escrow.clock.now()).opened

    def test_a_right_one(self, escrow: Escrow, held: tuple[RecoveryRequestReply, OutcomeReply]) -> None:
        assert self.check(escrow, *held) == 3

    def test_an_invented_one(self, escrow: Escrow, held: tuple[RecoveryRequestReply, OutcomeReply]) -> None:
        reply, outcome = held
        better = msgspec.structs.replace(
            outcome, outcome=outcome.outcome.replace(b'"opened":3', b'"opened":9')
        )
        assert better != outcome
        with pytest.raises(EvidenceRejectedError, match="report_data"):
            self.check(escrow, reply, better)

    def test_of_an_older_rehearsal(
        self, escrow: Escrow, held: tuple[RecoveryRequestReply, OutcomeReply]
    ) -> None:
        newer = escrow.ask("rehearsal", nonce=bytes([1]) * 32)
        with pytest.raises(EvidenceRejectedError, match="report_data"):
            self.check(escrow, newer, held[1])

    def test_of_other_code(self, escrow: Escrow, held: tuple[RecoveryRequestReply, OutcomeReply]) -> None:
        reply, outcome = held
        binding = outcome_binding(
            reply.request, outcome=outcome.outcome, attester_nonce=outcome.attester_nonce
        )
        forged = encode_evidence(quote(binding.report_data(), OTHER_CODE))
        with pytest.raises(EvidenceRejectedError, match="measurement"):
            self.check(escrow, reply, msgspec.structs.replace(outcome, evidence=forged))

    def test_about_another_request(self, escrow: Escrow) -> None:
        reply = escrow.ask("rehearsal")
        data = encode_document(Outcome(request="ab" * 32, opened=3, failures=0))
        binding = outcome_binding(reply.request, outcome=data, attester_nonce=bytes(32))
        strange = OutcomeReply(
            outcome=data,
            attester_nonce=bytes(32),
            evidence=encode_evidence(quote(binding.report_data())),
        )
        with pytest.raises(RefusedError, match="request: expected"):
            self.check(escrow, reply, strange)


class TestPinning:
    def test_the_deployment_is_an_argument(self, escrow: Escrow) -> None:
        with pytest.raises(RefusedError, match=f"deployment: expected {OTHER_DEPLOYMENT}"):
            verify_request(
                escrow.ask(), deployment=OTHER_DEPLOYMENT, policy=policy_of(), now=escrow.clock.now()
            )
