"""A change needs k of n owners over exactly these bytes, for this deployment, this version, once."""

import hashlib
from typing import Any

import msgspec
import pytest

from s3ml.attestation import encode_policy
from s3ml.keyservice.documents import ControlMessage, EpochEntry, KeyServiceDocument
from s3ml.keyservice.epochs import EpochState
from s3ml.keyservice.errors import ConflictError, NotFoundError, RefusedError
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.resources import judge_policy
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.errors import ConfigurationError, S3MLError
from s3ml.primitives.signing import SigningKey
from tests.clocks import NOW
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_POLICY,
    MODEL_OWNER,
    MODEL_POLICY,
    OWNER_KEYS,
    World,
    policy_of,
)

POLICY = encode_policy(MODEL_POLICY)
OTHER_POLICY = policy_of(hashlib.sha256(b"another build").digest())


@pytest.fixture
async def begun(world: World) -> World:
    await world.begin()
    return world


async def refused(world: World, message: ControlMessage, error: type[S3MLError], told: str) -> S3MLError:
    before = (world.service.checkpoint(), world.storage.head())
    with pytest.raises(error, match=told) as caught:
        await world.service.control(message)
    assert (world.service.checkpoint(), world.storage.head()) == before
    return caught.value


class TestSignatures:
    async def test_too_few(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY, keys=OWNER_KEYS[:1])
        await refused(begun, message, SignatureError, "expected 2 of the named keys, got 1")

    async def test_one_owner_twice_counts_once(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY, keys=OWNER_KEYS[:1])
        statement = msgspec.structs.replace(message.statement, signatures=message.statement.signatures * 2)
        await refused(begun, msgspec.structs.replace(message, statement=statement), SignatureError, "got 1")

    async def test_a_stranger_does_not_count(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY, keys=(OWNER_KEYS[0], MODEL_OWNER))
        await refused(begun, message, SignatureError, "got 1")

    async def test_any_two_owners_do(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY, keys=OWNER_KEYS[1:])
        assert (await begun.service.control(message)).index == 1


class TestStatement:
    async def test_another_deployment(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY, deployment="ab" * 32)
        await refused(begun, message, RefusedError, "deployment: expected")

    async def test_another_body(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY)
        changed = msgspec.structs.replace(message, body=POLICY + b"\n")
        await refused(begun, changed, RefusedError, "body_sha256")

    async def test_a_message_that_is_sent_again_changes_nothing_and_is_answered_as_before(
        self, begun: World
    ) -> None:
        message = begun.message("policies/models", 1, POLICY)
        first, head = await begun.service.control(message), begun.storage.head()
        assert await begun.service.control(message) == first
        assert begun.storage.head() == head

    async def test_a_replay_after_the_next_change(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY)
        await begun.service.control(message)
        await begun.put_policy(OTHER_POLICY, version=2)
        await refused(begun, message, ConflictError, "expected 3, got 1")

    async def test_a_replay_with_another_body(self, begun: World) -> None:
        message = begun.message("policies/models", 1, POLICY)
        await begun.service.control(message)
        changed = msgspec.structs.replace(message, body=encode_policy(OTHER_POLICY))
        await refused(begun, changed, RefusedError, "body_sha256")

    async def test_a_version_ahead(self, begun: World) -> None:
        message = begun.message("policies/models", 2, POLICY)
        await refused(begun, message, ConflictError, "expected 1, got 2")

    async def test_a_nonce_seen_before(self, begun: World) -> None:
        await begun.service.control(begun.message("policies/models", 1, POLICY, nonce=bytes(32)))
        again = begun.message("policies/others", 1, POLICY, nonce=bytes(32))
        await refused(begun, again, ConflictError, "nonce")

    async def test_a_body_over_the_limit(self, begun: World) -> None:
        message = begun.message("policies/models", 1, bytes(2**20 + 1))
        await refused(begun, message, ConfigurationError, "at most 1048576")

    async def test_before_genesis(self, world: World) -> None:
        envelope = Envelope(payload_type="x", payload=b"")
        with pytest.raises(NotFoundError):
            await world.service.control(ControlMessage(statement=envelope, body=b""))


class TestPolicies:
    async def test_no_policy(self, begun: World) -> None:
        await refused(
            begun, begun.message("policies/models", 1, b"version = 1"), ConfigurationError, "policy"
        )

    def test_simulated_where_genesis_forbids_it(self) -> None:
        with pytest.raises(RefusedError, match="tee: expected a real one"):
            judge_policy(POLICY, is_simulated=False)

    async def test_resources_are_listed(self, begun: World) -> None:
        await begun.put_policy()
        await begun.put_service()
        listed = begun.service.resources().resources
        assert [(r.resource, r.resource_version, r.log_index) for r in listed] == [
            ("policies/models", 1, 1),
            ("services/tumours", 1, 2),
        ]
        assert listed[0].body == POLICY


class TestServices:
    @pytest.fixture
    async def governed(self, begun: World) -> World:
        await begun.put_policy()
        return begun

    def put(self, world: World, *manifests: Envelope, attach: tuple[bytes, ...], **changes: Any) -> None:
        body = world.document(*manifests, **changes)
        self.message = world.message("services/tumours", 1, body, attachments=attach)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"service": "others"}, "service: expected tumours, got others"),
            ({"policy": "missing"}, "no policy of that name"),
            ({"policy_sha256": "ab" * 32}, "policy models"),
        ],
    )
    async def test_the_document(self, governed: World, changes: dict[str, Any], told: str) -> None:
        sealed = governed.sealed_identity()
        self.put(governed, governed.manifest(sealed), attach=(sealed,), **changes)
        await refused(governed, self.message, RefusedError, told)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"deployment": "ab" * 32}, "forest 1: deployment"),
            ({"service": "others"}, "forest 1: service"),
            ({"policy_sha256": "ab" * 32}, "forest 1: policy"),
        ],
    )
    async def test_a_manifest_for_something_else(
        self, governed: World, changes: dict[str, Any], told: str
    ) -> None:
        sealed = governed.sealed_identity()
        self.put(governed, governed.manifest(sealed, **changes), attach=(sealed,))
        await refused(governed, self.message, RefusedError, told)

    async def test_a_manifest_of_a_stranger(self, governed: World) -> None:
        sealed = governed.sealed_identity()
        self.put(governed, governed.manifest(sealed, key=SigningKey.generate()), attach=(sealed,))
        await refused(governed, self.message, SignatureError, "model owners, got none")

    async def test_no_manifest(self, governed: World) -> None:
        envelope = Envelope(payload_type="other", payload=b"{}").with_signature(MODEL_OWNER)
        self.put(governed, envelope, attach=())
        await refused(governed, self.message, ConfigurationError, "manifest: expected")

    async def test_a_model_version_twice(self, governed: World) -> None:
        sealed = governed.sealed_identity()
        manifest = governed.manifest(sealed)
        self.put(governed, manifest, manifest, attach=(sealed,))
        await refused(governed, self.message, RefusedError, "each model version once")

    async def test_no_models(self, governed: World) -> None:
        self.put(governed, attach=())
        await refused(governed, self.message, ConfigurationError, "models")

    async def test_no_attachment(self, governed: World) -> None:
        sealed = governed.sealed_identity()
        self.put(governed, governed.manifest(sealed), attach=())
        await refused(governed, self.message, RefusedError, "expected its attachment, got none")

    async def test_an_unnamed_attachment(self, governed: World) -> None:
        sealed = governed.sealed_identity()
        self.put(governed, governed.manifest(sealed), attach=(sealed, b"extra"))
        await refused(governed, self.message, RefusedError, "an identity that a manifest names")

    @pytest.mark.parametrize("changes", [{"service": "others"}, {"model": "others"}, {"model_version": "2"}])
    async def test_an_identity_sealed_for_something_else(
        self, governed: World, changes: dict[str, Any]
    ) -> None:
        sealed = governed.sealed_identity(**changes)
        self.put(governed, governed.manifest(sealed), attach=(sealed,))
        error = await refused(governed, self.message, RefusedError, "sealed message: does not open")
        assert governed.identity not in str(error)

    async def test_another_secret_than_an_identity(self, governed: World) -> None:
        sealed = governed.sealed_identity(identity="hunter2")
        self.put(governed, governed.manifest(sealed), attach=(sealed,))
        error = await refused(governed, self.message, RefusedError, "another secret")
        assert "hunter2" not in str(error)

    async def test_an_identity_that_is_held_needs_no_attachment(self, governed: World) -> None:
        sealed = governed.sealed_identity()
        body = governed.document(governed.manifest(sealed))
        await governed.service.control(governed.message("services/tumours", 1, body, attachments=(sealed,)))
        reply = await governed.service.control(governed.message("services/tumours", 2, body))
        assert (reply.index, reply.log_size) == (5, 6)

    async def test_an_identity_that_is_held_outlives_the_intake_key_that_it_was_sealed_to(
        self, governed: World
    ) -> None:
        """After the key service's upgrade, the grants that owners have are as good as before."""
        sealed = governed.sealed_identity()
        body = governed.document(governed.manifest(sealed))
        await governed.service.control(governed.message("services/tumours", 1, body, attachments=(sealed,)))
        new = encode_document(KeyServiceDocument(policy=encode_policy(KEY_SERVICE_POLICY)))
        await governed.service.control(governed.message("deployment/key-service", 1, new))
        await governed.service.control(governed.message("services/tumours", 2, body, attachments=(sealed,)))
        session = governed.session()
        (model,) = session.open(await governed.release(session)).release.models
        assert model.identity == governed.identity

    async def test_an_identity_that_is_held_under_one_policy_is_none_under_another(
        self, governed: World
    ) -> None:
        """Owners cannot hand a model to code that its owner did not seal it for."""
        sealed = governed.sealed_identity()
        body = governed.document(governed.manifest(sealed))
        await governed.service.control(governed.message("services/tumours", 1, body, attachments=(sealed,)))
        await governed.put_policy(OTHER_POLICY, name="other")
        thief = SigningKey.generate()
        stolen = governed.document(
            governed.manifest(sealed, policy=OTHER_POLICY, key=thief),
            under=OTHER_POLICY,
            policy="other",
            model_owners=(str(thief.public),),
        )
        message = governed.message("services/tumours", 2, stolen)
        await refused(governed, message, RefusedError, "expected its attachment, got none")


class TestReplacedBody:
    """A change holds for what its signers saw, or not at all."""

    async def test_a_change_that_was_kept_back_holds_no_more(self, begun: World) -> None:
        """A gateway lied about the version, waited for that version, and sends what it kept."""
        await begun.put_policy()
        seen = begun.standing("policies/models")
        kept = begun.message("policies/models", 3, encode_policy(MODEL_POLICY), previous=seen)
        await begun.put_policy(OTHER_POLICY, version=2)
        await refused(begun, kept, ConflictError, f"body that it replaces: expected .*, got {seen}")

    async def test_a_first_version_replaces_nothing(self, begun: World) -> None:
        message = begun.message("policies/models", 1, encode_policy(MODEL_POLICY), previous="ab" * 32)
        await refused(begun, message, ConflictError, "expected none, got abab")


class TestEpochs:
    async def newest(self, world: World) -> EpochEntry:
        found = await world.service.entries(0, 100)
        bodies = [parse_entry(entry).body for entry in found.entries]
        return [body for body in bodies if isinstance(body, EpochEntry)][-1]

    def living(self, world: World) -> list[tuple[int, str]]:
        return [(epoch.number, epoch.state) for epoch in world.view.state.epochs["tumours"].living]

    async def test_a_service_begins_with_one(self, serving: World) -> None:
        epoch = await self.newest(serving)
        assert (epoch.epoch, epoch.reason, epoch.state) == (1, "created", "active")
        assert self.living(serving) == [(1, "active")]

    async def test_a_replaced_policy_suspends_the_service(self, serving: World) -> None:
        (before,) = serving.view.state.epochs["tumours"].living
        await serving.put_policy(OTHER_POLICY, version=2)
        with pytest.raises(ConflictError, match="sign the service anew"):
            serving.service.challenge(serving.session().challenge_request())
        with pytest.raises(ConflictError, match="sign the service anew"):
            await serving.bundle()
        assert self.living(serving) == []
        retired = before.to(EpochState.RETIRED, at=NOW)
        with pytest.raises(ValueError, match="state after retired"):
            retired.to(EpochState.ACTIVE, at=NOW)

    async def test_signing_the_service_anew_begins_the_next(self, serving: World) -> None:
        await serving.put_policy(OTHER_POLICY, version=2)
        await serving.put_service(version=2, policy=OTHER_POLICY)
        epoch = await self.newest(serving)
        assert (epoch.epoch, epoch.reason, epoch.state) == (2, "policy-changed", "active")
        assert self.living(serving) == [(2, "active")]

    async def test_going_back_to_the_policy_begins_the_next_too(self, serving: World) -> None:
        await serving.put_policy(OTHER_POLICY, version=2)
        await serving.put_policy(version=3)
        assert (await self.newest(serving)).epoch == 2

    async def test_another_policy_by_name_retires_at_once(self, serving: World) -> None:
        await serving.put_policy(OTHER_POLICY, name="newer")
        sealed = serving.sealed_identity(policy=OTHER_POLICY)
        body = serving.document(serving.manifest(sealed, policy=OTHER_POLICY), under=OTHER_POLICY).replace(
            b'"policy":"models"', b'"policy":"newer"'
        )
        await serving.service.control(serving.message("services/tumours", 2, body, attachments=(sealed,)))
        epoch = await self.newest(serving)
        assert (epoch.epoch, epoch.reason) == (2, "policy-changed")
        assert self.living(serving) == [(2, "active")]
