"""A client believes a bundle only when every step holds; each test breaks exactly one."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from s3ml.attestation import encode_policy, verify_evidence
from s3ml.keyservice import genesis as genesis_module
from s3ml.keyservice.client import TrustBundleRejectedError
from s3ml.keyservice.documents import (
    RELEASE_TYPE,
    ControlEntry,
    ProvenEntry,
    TrustBundle,
    TrustBundleRequest,
    TrustStatement,
)
from s3ml.keyservice.errors import BusyError, ConflictError, NotFoundError
from s3ml.keyservice.log import deployment_id
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import UnavailableError
from tests.keyservice.keyservice_forge import Edit, Forge
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_POLICY,
    MODEL_POLICY,
    NONCE,
    OWNER_KEYS,
    REAL_POLICY,
    InProcessAttester,
    World,
    policy_of,
    signed,
    signed_proposal,
)


@pytest.fixture
async def forge(serving: World) -> Forge:
    made = Forge(serving)
    made.bundle_bytes = await serving.bundle()
    return made


def rejected(forge: Forge, bundle: bytes, number: int, told: str, **anchor: Any) -> None:
    with pytest.raises(TrustBundleRejectedError, match=told) as caught:
        forge.world.verify(bundle, **anchor)
    assert caught.value.number == number, str(caught.value)
    assert [step.number for step in caught.value.passed] == list(range(1, number))


def set_(**fields: Any) -> Edit:
    return lambda document: msgspec.structs.replace(document, **fields)


class TestForge:
    def test_it_is_honest_until_told_otherwise(self, forge: Forge) -> None:
        assert forge.world.verify(forge.make()).log_size == 5


class TestSteps1To3:
    def test_1_no_bundle(self, forge: Forge) -> None:
        rejected(forge, b"{}", 1, "missing required field")

    def test_1_about_another_service(self, forge: Forge) -> None:
        rejected(forge, forge.make(statement=set_(service="others")), 1, "expected tumours, got others")

    def test_2_another_deployment(self, forge: Forge) -> None:
        rejected(forge, forge.make(), 2, "deployment: expected", deployment="ab" * 32)

    def test_2_a_statement_of_another_deployment(self, forge: Forge) -> None:
        rejected(forge, forge.make(statement=set_(deployment="ab" * 32)), 2, "of the statement")

    def test_3_a_genesis_that_too_few_owners_signed(self, forge: Forge) -> None:
        forge.body(0, set_(proposal=signed_proposal(OWNER_KEYS[0])))
        entry = forge.data[0]
        bundle = msgspec.structs.replace(
            forge.original(), genesis=ProvenEntry(index=0, entry=entry, proof=())
        )
        statement = msgspec.json.decode(bundle.statement.payload, type=TrustStatement)
        pinned = deployment_id(entry)
        payload = encode_document(msgspec.structs.replace(statement, deployment=pinned))
        envelope = msgspec.structs.replace(bundle.statement, payload=payload)
        data = encode_document(msgspec.structs.replace(bundle, statement=envelope))
        rejected(forge, data, 3, "got 1", deployment=pinned)


class TestStep4Evidence:
    def test_of_another_nonce(self, forge: Forge) -> None:
        with pytest.raises(TrustBundleRejectedError, match="report_data") as caught:
            forge.world.verify(forge.make(), nonce=bytes(32))
        assert caught.value.number == 4
        assert [m.claim for m in caught.value.mismatches] == ["report_data"]

    def test_of_another_build(self, forge: Forge) -> None:
        bundle = forge.make(attester=InProcessAttester(bytes(32)))
        rejected(forge, bundle, 4, "measurement")

    def test_of_another_statement(self, forge: Forge) -> None:
        other = msgspec.json.decode(forge.make(statement=set_(log_size=9)), type=TrustBundle)
        bundle = forge.make(bundle=set_(statement=other.statement))
        rejected(forge, bundle, 4, "report_data")

    def test_that_cannot_be_read(self, forge: Forge) -> None:
        rejected(forge, forge.make(bundle=set_(evidence=b"{}")), 4, "evidence")

    def test_of_a_build_that_the_client_does_not_pin(self, forge: Forge) -> None:
        rejected(forge, forge.make(), 4, "measurement", key_service_policy=policy_of(bytes(32)))

    @pytest.mark.parametrize("fields", [{"batch_index": 1}, {"batch_size": 2}, {"batch_path": (bytes(32),)}])
    def test_from_another_place_in_the_batch(self, forge: Forge, fields: dict[str, Any]) -> None:
        rejected(forge, forge.make(bundle=set_(**fields)), 4, "inclusion proof")


class TestSteps5To8:
    def test_5_another_signer(self, forge: Forge) -> None:
        rejected(forge, forge.make(statement_key=forge.keys.checkpoint), 5, "got 0")

    def test_5_another_type(self, forge: Forge) -> None:
        rejected(forge, forge.make(statement_type=RELEASE_TYPE), 5, "payload type")

    def test_6_another_log(self, forge: Forge) -> None:
        bundle = forge.make(checkpoint=lambda c: replace(c, origin="s3ml/" + "ab" * 32))
        rejected(forge, bundle, 6, "checkpoint")

    @pytest.mark.parametrize(
        ("edit", "told"),
        [
            (lambda c: replace(c, size=6), "log size"),
            (lambda c: replace(c, root=bytes(32)), "log root"),
        ],
    )
    def test_6_another_head(self, forge: Forge, edit: Edit, told: str) -> None:
        rejected(forge, forge.make(checkpoint=edit), 6, told)

    def test_6_a_fork_protection_that_is_not_there(self, forge: Forge) -> None:
        rejected(forge, forge.make(statement=set_(is_fork_protected=True)), 6, "is_fork_protected")

    @pytest.mark.parametrize("name", ["policy", "service", "epoch"])
    def test_7_an_entry_of_another_log(self, forge: Forge, name: str) -> None:
        found = msgspec.json.decode(forge.make(), type=TrustBundle)
        proven = getattr(found, name)
        changed = msgspec.structs.replace(proven, entry=proven.entry + b" ")
        rejected(forge, encode_document(msgspec.structs.replace(found, **{name: changed})), 7, "inclusion")

    def test_7_genesis_elsewhere(self, forge: Forge) -> None:
        found = msgspec.json.decode(forge.make(), type=TrustBundle)
        moved = msgspec.structs.replace(found.genesis, index=1)
        rejected(forge, encode_document(msgspec.structs.replace(found, genesis=moved)), 7, "index of genesis")

    async def test_8_a_log_that_grew_is_consistent(self, serving: World) -> None:
        first = serving.verify(await serving.bundle())
        await serving.put_policy(name="more")
        second = serving.verify(
            await serving.bundle(known_size=first.log_size), known=(first.log_size, first.log_root)
        )
        assert second.log_size == first.log_size + 1
        assert "extends the log of size 5" in second.steps[7].detail

    @pytest.mark.parametrize("known", [(5, bytes(32)), (2, bytes(32)), (9, bytes(32)), (0, bytes(32))])
    def test_8_a_log_that_contradicts_the_known_one(self, forge: Forge, known: tuple[int, bytes]) -> None:
        rejected(forge, forge.make(), 8, "does not extend", known=known)

    async def test_8_an_older_log_is_not_even_stated(self, serving: World) -> None:
        with pytest.raises(ConflictError, match="older log than you have seen"):
            await serving.bundle(known_size=6)


class TestStep9Entries:
    @pytest.mark.parametrize(
        ("edit", "told"),
        [
            (set_(models=()), "models"),
            (set_(key_configs=b"other"), "key configurations"),
            (set_(policy=b"other"), "policy of the statement"),
            (set_(is_simulated=False), "is_simulated"),
        ],
    )
    def test_a_statement_that_says_something_else(self, forge: Forge, edit: Edit, told: str) -> None:
        rejected(forge, forge.make(statement=edit), 9, told)

    @pytest.mark.parametrize(
        ("order", "told"),
        [
            ((0, 3, 2, 3), "policies: expected a control entry"),
            ((0, 1, 3, 3), "services: expected a control entry"),
            ((0, 1, 2, 2), "epoch: expected an epoch entry"),
            ((0, 2, 2, 3), "kind of entry 2: expected policies, got services"),
            ((0, 1, 1, 3), "kind of entry 1: expected services, got policies"),
        ],
    )
    def test_entries_in_other_roles(self, forge: Forge, order: tuple[int, int, int, int], told: str) -> None:
        rejected(forge, forge.make(order=order), 9, told)

    @pytest.mark.parametrize("index", [1, 2])
    def test_too_few_owners(self, forge: Forge, index: int) -> None:
        def drop(body: ControlEntry) -> ControlEntry:
            signatures = body.statement.signatures[:1]
            statement = msgspec.structs.replace(body.statement, signatures=signatures)
            return msgspec.structs.replace(body, statement=statement)

        forge.body(index, drop)
        rejected(forge, forge.make(), 9, "expected 2 of the named keys, got 1")

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"service": "others"}, "service of the epoch"),
            ({"policy_sha256": "ab" * 32}, "policy of the epoch"),
        ],
    )
    def test_an_epoch_of_something_else(self, forge: Forge, fields: dict[str, str], told: str) -> None:
        forge.body(3, set_(**fields))
        rejected(forge, forge.make(), 9, told)

    @pytest.mark.parametrize(
        ("fields", "told"),
        [({"index": 9}, "index of the entry"), ({"deployment": "ab" * 32}, "deployment of the entry")],
    )
    def test_an_entry_of_another_place(self, forge: Forge, fields: dict[str, Any], told: str) -> None:
        forge.entry(3, set_(**fields))
        rejected(forge, forge.make(), 9, told)

    def test_a_service_under_another_name(self, forge: Forge) -> None:
        world = forge.world
        body = world.document(world.manifest(world.sealed_identity()), service="others")
        message = world.message("services/others", 1, body)
        forge.body(2, lambda _: ControlEntry(statement=message.statement, body=body))
        rejected(forge, forge.make(), 9, "name of the service entry: expected tumours, got others")

    def test_a_policy_under_another_name(self, forge: Forge) -> None:
        message = forge.world.message("policies/others", 1, encode_policy(MODEL_POLICY))
        forge.body(1, lambda _: ControlEntry(statement=message.statement, body=message.body))
        rejected(forge, forge.make(), 9, "name of the policy entry: expected models, got others")

    def test_another_policy(self, forge: Forge) -> None:
        message = forge.world.message("policies/models", 1, encode_policy(policy_of(bytes(32))))
        forge.body(1, lambda _: ControlEntry(statement=message.statement, body=message.body))
        rejected(forge, forge.make(), 9, "policy of the service")


class TestSteps10To12:
    def test_10_a_wider_policy(self, forge: Forge) -> None:
        rejected(forge, forge.make(), 10, "wider than our own", service_policies={"tumours": REAL_POLICY})

    def test_10_no_policy_of_our_own(self, forge: Forge) -> None:
        rejected(forge, forge.make(), 10, "got neither", service_policies={})

    def test_10_following_the_owners(self, forge: Forge) -> None:
        verified = forge.world.verify(forge.make(), service_policies={}, follow_owners=True)
        assert verified.steps[9].detail == "follows whatever the deployment's owners signed"

    def test_10_our_own_policy_binds_even_when_following(self, forge: Forge) -> None:
        rejected(
            forge, forge.make(), 10, "wider", service_policies={"tumours": REAL_POLICY}, follow_owners=True
        )

    def test_11_simulated(self, forge: Forge) -> None:
        rejected(forge, forge.make(), 11, "expected a real TEE", allow_simulated=False)

    def test_12_a_statement_that_has_ended(self, forge: Forge) -> None:
        now = forge.world.clock.now()
        rejected(forge, forge.make(statement=set_(not_after=now)), 12, "compare the clocks")

    def test_12_an_old_question(self, forge: Forge) -> None:
        asked = forge.world.clock.now() - timedelta(seconds=600)
        rejected(forge, forge.make(), 12, "compare the clocks", requested_at=asked)

    def test_12_the_earlier_end_counts(self, forge: Forge) -> None:
        now = forge.world.clock.now()
        assert forge.world.verify(forge.make(), max_age_s=60).expires_at == now + timedelta(seconds=60)
        soon = now + timedelta(seconds=5)
        assert forge.world.verify(forge.make(statement=set_(not_after=soon))).expires_at == soon


class TestWhatIsShown:
    def test_a_real_enclave_is_not_called_simulated(
        self, forge: Forge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing simulated in genesis, enclave and policy: the verdict says so."""
        from s3ml.keyservice.client import trust_bundle

        real = verify_evidence

        def genuine(*arguments: Any, **keywords: Any) -> Any:
            return replace(real(*arguments, **keywords), is_simulated=False)

        monkeypatch.setattr(trust_bundle, "verify_evidence", genuine)
        monkeypatch.setattr(trust_bundle, "read_policy", lambda _: REAL_POLICY)
        monkeypatch.setattr(genesis_module.Genesis, "is_simulated", property(lambda _: False))
        verified = forge.world.verify(
            forge.make(statement=set_(is_simulated=False)),
            allow_simulated=False,
            service_policies={"tumours": REAL_POLICY},
        )
        assert not verified.is_simulated
        assert "nothing simulated" in verified.steps[10].detail
        assert "SIMULATED" not in verified.steps[3].detail


class TestBatches:
    async def test_many_clients_share_a_quote(self, serving: World) -> None:
        before = serving.attester.quotes
        nonces = [sha256(bytes([n])) for n in range(20)]
        bundles = await serving.bundles(*(TrustBundleRequest(service="tumours", nonce=n) for n in nonces))
        assert serving.attester.quotes == before + 1
        for bundle, nonce in zip(bundles, nonces, strict=True):
            assert serving.verify(bundle, nonce=nonce).service == "tumours"
        with pytest.raises(TrustBundleRejectedError):
            serving.verify(bundles[0], nonce=nonces[1])

    async def test_an_unanswerable_question_harms_no_other(self, serving: World) -> None:
        good = TrustBundleRequest(service="tumours", nonce=NONCE)
        bad = TrustBundleRequest(service="tumours", nonce=NONCE, known_size=99)
        background = asyncio.ensure_future(serving.service.run())
        answers = await asyncio.gather(
            serving.service.trust_bundle(bad), serving.service.trust_bundle(good), return_exceptions=True
        )
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
        assert isinstance(answers[0], ConflictError)
        assert isinstance(answers[1], bytes)

    async def test_a_tee_that_does_not_answer(self, serving: World) -> None:
        serving.attester.error = UnavailableError("no quote")
        with pytest.raises(UnavailableError, match="no quote"):
            await serving.bundle()

    async def test_an_unknown_service(self, serving: World) -> None:
        with pytest.raises(NotFoundError, match="others"):
            await serving.service.trust_bundle(TrustBundleRequest(service="others", nonce=NONCE))

    async def test_too_many_wait(self, serving: World) -> None:
        serving.service._batcher._max_waiting = 0
        with pytest.raises(BusyError):
            await serving.bundle()

    def test_the_pinned_policy_is_the_worlds(self) -> None:
        assert KEY_SERVICE_POLICY.is_simulated
        assert signed(Envelope(payload_type="x", payload=b""), *OWNER_KEYS).signatures
