"""Keys go only to the enclave that answers its own challenge with the measurement that the owners signed."""

import hashlib

import msgspec
import pytest

from s3ml.attestation import EvidenceMalformedError, EvidenceRejectedError, encode_evidence
from s3ml.keyservice.audit import CAPACITY
from s3ml.keyservice.bindings import release_binding
from s3ml.keyservice.challenges import Challenges
from s3ml.keyservice.client import ReleaseSession
from s3ml.keyservice.documents import (
    RELEASE_TYPE,
    AnonymousCallers,
    ChallengeRequest,
    Release,
    ReleaseReply,
    ReleaseRequest,
)
from s3ml.keyservice.errors import BusyError, ConflictError, NotFoundError, RefusedError
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.vault import epoch_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.errors import ConfigurationError, S3MLError, UntrustedPeerError
from s3ml.transparency.merkle import ProofRejectedError
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, seal_once
from tests.keyservice.keyservice_world import MODEL_SERVER_CODE, InProcessAttester, World, policy_of

TAMPERED = hashlib.sha256(b"a byte changed").digest()


def answered(world: World, session: ReleaseSession | None = None) -> ReleaseRequest:
    session = session or world.session()
    return session.answer(world.service.challenge(session.challenge_request()))


async def refused(world: World, request: ReleaseRequest, error: type[S3MLError], told: str) -> S3MLError:
    with pytest.raises(error, match=told) as caught:
        await world.service.release(request)
    assert len(world.service._audit) == 0
    return caught.value


class TestChallenge:
    async def test_its_nonce_serves_once(self, serving: World) -> None:
        request = answered(serving)
        await serving.service.release(request)
        with pytest.raises(RefusedError, match="nonce"):
            await serving.service.release(request)

    async def test_a_failed_answer_consumes_it_too(self, serving: World) -> None:
        request = answered(serving)
        broken = msgspec.structs.replace(request, evidence=b"{}")
        await refused(serving, broken, EvidenceMalformedError, "evidence")
        await refused(serving, request, RefusedError, "nonce")

    async def test_it_expires(self, serving: World) -> None:
        request = answered(serving)
        serving.clock.advance(60)
        await refused(serving, request, RefusedError, "of the last 60 s")

    async def test_an_invented_one(self, serving: World) -> None:
        request = msgspec.structs.replace(answered(serving), nonce=bytes(32))
        await refused(serving, request, RefusedError, "nonce")

    async def test_an_unknown_service(self, serving: World) -> None:
        with pytest.raises(NotFoundError, match="service others"):
            serving.service.challenge(ChallengeRequest(role="model-server", service="others"))

    def test_a_flood_is_bounded_and_shuts_nobody_out(self) -> None:
        """Where the table is full, the oldest challenge goes: whoever answers soon is answered."""
        table = Challenges(capacity=3)
        fields = {"service": "s", "policy_sha256": "ab" * 32, "log_head": bytes(32)}
        first, *others = (table.issue(**fields, now_s=second).nonce for second in range(4))  # type: ignore[arg-type]
        with pytest.raises(RefusedError):
            table.take(first, now_s=5.0)
        assert [table.take(nonce, now_s=5.0).nonce for nonce in others] == others


class TestEvidence:
    async def test_a_changed_build_is_refused_by_measurement(self, serving: World) -> None:
        request = answered(serving, serving.session(TAMPERED))
        error = await refused(serving, request, EvidenceRejectedError, "measurement")
        assert isinstance(error, EvidenceRejectedError)
        assert [
            (m.claim, MODEL_SERVER_CODE.hex() in m.expected, TAMPERED.hex() in m.got)
            for m in error.mismatches
        ] == [("measurement", True, True)]
        told = [event for event in serving.told if event["event"] == "release-refused"]
        assert len(told) == 1
        assert TAMPERED.hex() in told[0]["mismatches"][0]["got"]

    @pytest.mark.parametrize("field", ["attester_nonce", "public_key"])
    async def test_it_binds_every_field(self, serving: World, field: str) -> None:
        value = bytes(32) if field == "attester_nonce" else PrivateKey.generate(Kem.MLKEM768_X25519).public
        request = msgspec.structs.replace(answered(serving), **{field: value})
        await refused(serving, request, EvidenceRejectedError, "report_data")

    async def test_it_answers_no_other_challenge(self, serving: World) -> None:
        other = serving.service.challenge(serving.session().challenge_request())
        request = msgspec.structs.replace(answered(serving), nonce=other.nonce)
        await refused(serving, request, EvidenceRejectedError, "report_data")

    async def test_it_answers_for_no_other_service(self, serving: World) -> None:
        attester = InProcessAttester(MODEL_SERVER_CODE)
        session = ReleaseSession("others", attester)
        request = session.answer(serving.service.challenge(serving.session().challenge_request()))
        await refused(serving, request, EvidenceRejectedError, "report_data")

    async def test_a_short_nonce_is_malformed(self, serving: World) -> None:
        request = msgspec.structs.replace(answered(serving), attester_nonce=b"short")
        await refused(serving, request, ConfigurationError, "attester_nonce")

    async def test_a_key_of_another_kem_is_malformed(self, serving: World) -> None:
        session = serving.session()
        challenge = serving.service.challenge(session.challenge_request())
        request = session.answer(challenge)
        small = PrivateKey.generate(Kem.X25519).public
        bound = release_binding(
            deployment=challenge.deployment,
            nonce=challenge.nonce,
            attester_nonce=request.attester_nonce,
            public_key=small,
            service="tumours",
            policy_sha256=challenge.policy_sha256,
            log_head=challenge.log_head,
        ).report_data()
        evidence = encode_evidence(InProcessAttester(MODEL_SERVER_CODE).quote(bound))
        request = msgspec.structs.replace(request, public_key=small, evidence=evidence)
        await refused(serving, request, ConfigurationError, "public key")


class TestMeanwhile:
    async def test_a_moved_head_alone_is_fine(self, serving: World) -> None:
        request = answered(serving)
        await serving.put_policy(name="unrelated")
        assert (await serving.service.release(request)).sealed

    async def test_a_replaced_policy_is_not(self, serving: World) -> None:
        request = answered(serving)
        await serving.put_policy(policy_of(TAMPERED), version=2)
        await refused(serving, request, ConflictError, "sign the service anew")

    async def test_another_policy_of_the_service_is_not(self, serving: World) -> None:
        request = answered(serving)
        wider = policy_of(MODEL_SERVER_CODE, min_svn=None, advisories=("INTEL-SA-00001",))
        await serving.put_policy(wider, version=2)
        await serving.put_service(version=2, policy=wider)
        await refused(serving, request, ConflictError, "another challenge")

    async def test_keys_that_the_host_deleted_are_not_released(self, serving: World) -> None:
        name = epoch_name("tumours", 1)
        serving.storage._connection.execute("DELETE FROM secrets WHERE kind = ?", (name.kind,))
        await refused(serving, answered(serving), StorageTamperedError, "is missing")

    async def test_nothing_leaves_unrecorded(self, serving: World) -> None:
        serving.service._audit._waiting = [b"record"] * CAPACITY
        with pytest.raises(BusyError, match="audit"):
            await serving.service.release(answered(serving))


class TestModelServer:
    async def test_a_release_opens_once(self, serving: World) -> None:
        session = serving.session()
        reply = await serving.release(session)
        session.open(reply)
        with pytest.raises(ConfigurationError, match="challenge first"):
            session.open(reply)

    async def test_each_release_extends_the_log_of_the_one_before(self, serving: World) -> None:
        session = serving.session()
        first = session.open(await serving.release(session)).release
        await serving.put_policy(name="more")
        second = session.open(await serving.release(session)).release
        assert second.log_size == first.log_size + 1

    async def test_a_release_of_a_log_that_went_back_does_not_open(self, serving: World) -> None:
        session = serving.session()
        session.open(await serving.release(session))
        session._known = (2, bytes(32))
        with pytest.raises(ProofRejectedError, match="does not extend"):
            session.open(await serving.release(session))

    async def test_a_replayed_release_does_not_open(self, serving: World) -> None:
        session = serving.session()
        old = await serving.release(session)
        session.open(old)
        answered(serving, session)
        with pytest.raises(SealRejectedError):
            session.open(old)

    async def test_a_release_for_another_key_does_not_open(self, serving: World) -> None:
        reply = await serving.release(serving.session())
        session = serving.session()
        answered(serving, session)
        with pytest.raises(SealRejectedError):
            session.open(reply)

    async def test_secrets_do_not_show(self, serving: World) -> None:
        session = serving.session()
        opened = session.open(await serving.release(session))
        assert serving.identity not in repr(opened) + repr(opened.release)
        assert serving.identity.encode() not in serving.path.read_bytes()
        assert serving.identity not in serving.lines.getvalue()

    async def test_it_keeps_to_its_first_deployment(self, serving: World, tmp_path: object) -> None:
        session = serving.session()
        session.open(await serving.release(session))
        other = World(serving.path.with_name("other.sqlite"))
        await other.serve()
        with pytest.raises(RefusedError, match="pinned deployment"):
            answered(other, session)
        other.stop()

    async def test_a_challenge_that_contradicts_its_genesis(self, serving: World) -> None:
        session = serving.session()
        challenge = serving.service.challenge(session.challenge_request())
        with pytest.raises(RefusedError, match="deployment"):
            session.answer(msgspec.structs.replace(challenge, deployment="ab" * 32))

    @pytest.mark.parametrize(
        "field", ["deployment", "service", "policy_sha256", "attester_nonce", "log_size", "signer"]
    )
    async def test_a_signed_release_for_something_else(self, serving: World, field: str) -> None:
        session = serving.session()
        answered(serving, session)
        pending = session._pending
        assert pending is not None
        fields = {
            "deployment": serving.genesis.deployment,
            "service": "tumours",
            "policy_sha256": pending.policy_sha256,
            "attester_nonce": pending.attester_nonce,
        }
        wrong = {"service": "others", "attester_nonce": bytes(32)}
        key = serving.keyring.deployment.statement
        if field == "signer":
            key = serving.keyring.deployment.checkpoint
        elif field in fields:
            fields[field] = wrong.get(field, "ab" * 32)
        release = Release(
            **fields,  # type: ignore[arg-type]
            issued_at=serving.clock.now(),
            lease_s=300.0,
            callers=(AnonymousCallers(),),
            model_owners=(),
            epochs=(),
            models=(),
            log_size=serving.view.size - (field == "log_size"),
            log_root=serving.view.root,
            checkpoint=serving.view.checkpoint,
        )
        envelope = Envelope(payload_type=RELEASE_TYPE, payload=encode_document(release)).with_signature(key)
        sealed = seal_once(HYBRID_AES256, pending.key.public, envelope.to_json(), info=pending.info)
        error: type[UntrustedPeerError] = SignatureError if field == "signer" else RefusedError
        with pytest.raises(error):
            session.open(ReleaseReply(sealed=sealed))
        assert session.deployment is None
