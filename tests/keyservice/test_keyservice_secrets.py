"""Secrets of a service: each under a policy of its own, never in the log, released to who satisfies that."""

import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest

from s3ml.attestation import AppraisalPolicy, encode_policy
from s3ml.keyservice.client import OpenedRelease, find_secret, is_committed, seal_secret
from s3ml.keyservice.client.secrets import SealedSecret
from s3ml.keyservice.documents import (
    AuditRecord,
    ControlMessage,
    ControlReply,
    ControlStatement,
    OpaqueSecretDocument,
    ReleasedSecret,
    SecretDocument,
    SecretReference,
    SymmetricKeyDocument,
)
from s3ml.keyservice.errors import ConflictError, NotFoundError, RefusedError
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from s3ml.keyservice.secret_values import secret_name, secret_names
from s3ml.keyservice.storage import SecretName
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from tests.keyservice.keyservice_world import (
    MODEL_POLICY,
    MODEL_SERVER_CODE,
    OWNER_KEYS,
    World,
    policy_of,
    signed,
)

NEW_CODE = hashlib.sha256(b"new model server").digest()
NARROW = policy_of(NEW_CODE)
BOTH = AppraisalPolicy(accept=(*MODEL_POLICY.accept, *NARROW.accept))
PASSWORD = b"correct horse battery staple"


def digest(policy: AppraisalPolicy) -> str:
    return hashlib.sha256(encode_policy(policy)).hexdigest()


def key_document(under: AppraisalPolicy = MODEL_POLICY, **changes: Any) -> SymmetricKeyDocument:
    fields = {"secret": "at-rest", "service": "tumours", "policy": "models", "policy_sha256": digest(under)}
    return SymmetricKeyDocument(**{**fields, **changes})


class Secrets:
    """Owners and the owner of a secret, over a world that serves."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def put(
        self, document: SecretDocument, *attachments: bytes, version: int = 1, name: str | None = None
    ) -> ControlReply:
        resource = f"secrets/{name or document.secret}"
        body = encode_document(document)
        return await self.world.service.control(
            self.world.message(resource, version, body, attachments=attachments)
        )

    def seal(
        self, value: bytes = PASSWORD, *, policy: AppraisalPolicy = MODEL_POLICY, **changes: Any
    ) -> SealedSecret:
        fields = {"secret": "password", "service": "tumours", "policy": "models", **changes}
        return seal_secret(self.world.view.authority, value, policy_sha256=digest(policy), **fields)

    async def delete(self, resource: str, version: int, body: bytes = b"") -> ControlReply:
        world = self.world
        statement = ControlStatement(
            deployment=world.genesis.deployment,
            method="DELETE",
            resource=resource,
            resource_version=version,
            previous_sha256=world.standing(resource),
            body_sha256=hashlib.sha256(body).hexdigest(),
            nonce=world.nonce(),
            created_at=world.clock.now(),
        )
        unsigned = world.message(resource, version, body).statement
        envelope = Envelope(payload_type=unsigned.payload_type, payload=encode_document(statement))
        return await world.service.control(
            ControlMessage(statement=signed(envelope, *OWNER_KEYS[:2]), body=body)
        )

    async def opened(self, measurement: bytes = MODEL_SERVER_CODE) -> OpenedRelease:
        session = self.world.session(measurement)
        return session.open(await self.world.release(session))

    async def released(self, measurement: bytes = MODEL_SERVER_CODE) -> dict[tuple[str, int], ReleasedSecret]:
        release = (await self.opened(measurement)).release
        return {(one.secret, one.secret_version): one for one in release.secrets}

    def stored(self) -> set[SecretName]:
        found = self.world.storage
        return {
            one.name for kind in ("secret-symmetric-key", "secret-opaque") for one in found.secrets_of(kind)
        }

    def record(self) -> AuditRecord:
        return msgspec.json.decode(self.world.service._audit._waiting[-1], type=AuditRecord)


@pytest.fixture
async def secrets(world: World) -> Secrets:
    await world.serve()
    return Secrets(world)


def reference(name: str, version: int) -> SecretReference:
    return SecretReference(secret=name, secret_version=version)


class TestSymmetricKeys:
    """32 bytes that nobody outside the TEE has seen."""

    async def test_it_is_made_and_released(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        found = find_secret((await secrets.opened()).release, "at-rest")
        assert (len(found.value), found.kind, found.is_current, found.salt) == (
            32,
            "symmetric-key",
            True,
            b"",
        )
        again = find_secret((await secrets.opened()).release, "at-rest")
        assert again.value == found.value

    async def test_a_version_is_another_key_and_the_one_before_stays_beside_it(
        self, secrets: Secrets
    ) -> None:
        await secrets.put(key_document())
        first = (await secrets.released())["at-rest", 1].value
        await secrets.put(key_document(), version=2)
        released = await secrets.released()
        assert released["at-rest", 1].value == first
        assert released["at-rest", 2].value != first
        assert [one.is_current for one in released.values()] == [True, False]
        release = (await secrets.opened()).release
        assert find_secret(release, "at-rest").secret_version == 2
        assert find_secret(release, "at-rest", version=1).value == first

    async def test_the_one_before_that_is_destroyed(self, secrets: Secrets) -> None:
        for version in (1, 2, 3):
            await secrets.put(key_document(), version=version)
        assert set(await secrets.released()) == {("at-rest", 2), ("at-rest", 3)}
        assert len(secrets.stored()) == 2
        with pytest.raises(NotFoundError, match="secret at-rest, version 1"):
            find_secret((await secrets.opened()).release, "at-rest", version=1)

    async def test_it_comes_with_nothing(self, secrets: Secrets) -> None:
        with pytest.raises(RefusedError, match="attachment: expected none"):
            await secrets.put(key_document(), b"a key of mine")
        assert secrets.stored() == set()

    async def test_the_same_key_after_a_restart(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        before = (await secrets.released())["at-rest", 1].value
        await secrets.world.restart()
        assert (await secrets.released())["at-rest", 1].value == before


class TestOpaqueSecrets:
    """What their owner sealed, for one purpose."""

    async def test_it_is_released_as_it_was(self, secrets: Secrets) -> None:
        sealed = secrets.seal()
        await secrets.put(sealed.document, sealed.sealed)
        found = find_secret((await secrets.opened()).release, "password")
        assert (found.value, found.kind) == (PASSWORD, "opaque")

    async def test_its_reader_is_shown_that_it_is_the_right_one(self, secrets: Secrets) -> None:
        sealed = secrets.seal()
        await secrets.put(sealed.document, sealed.sealed)
        found = find_secret((await secrets.opened()).release, "password")
        assert found.salt == sealed.salt
        assert is_committed(found, sealed.document)
        for change in ({"value": PASSWORD + b"!"}, {"salt": bytes(32)}, {"secret": "other"}):
            assert not is_committed(msgspec.structs.replace(found, **change), sealed.document)

    @pytest.mark.parametrize("size", [1, 65_536])
    async def test_its_size(self, secrets: Secrets, size: int) -> None:
        sealed = secrets.seal(bytes(size))
        await secrets.put(sealed.document, sealed.sealed)
        assert (await secrets.released())["password", 1].value == bytes(size)

    @pytest.mark.parametrize("size", [0, 65_537])
    async def test_no_other_size(self, secrets: Secrets, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match=f"expected 1 to 65536 bytes, got {size}"):
            secrets.seal(bytes(size))
        monkeypatch.setattr("s3ml.keyservice.client.secrets.SECRET_LIMIT_BYTES", 1 << 20)
        sealed = secrets.seal(bytes(size)) if size else self.empty(secrets, monkeypatch)
        with pytest.raises(RefusedError, match=f"value: expected 1 to 65536 bytes, got {size} bytes"):
            await secrets.put(sealed.document, sealed.sealed)

    def empty(self, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> SealedSecret:
        """Seal the salt alone: 31 bytes of it would be no salt, 32 are no value."""
        monkeypatch.setattr("s3ml.keyservice.client.secrets.token_bytes", lambda _: bytes(31))
        return secrets.seal(b"\x00")

    async def test_without_its_attachment(self, secrets: Secrets) -> None:
        with pytest.raises(RefusedError, match=r"attachment: expected .* alone, got none"):
            await secrets.put(secrets.seal().document)

    async def test_with_another_attachment(self, secrets: Secrets) -> None:
        sealed, other = secrets.seal(), secrets.seal()
        with pytest.raises(RefusedError, match="attachment"):
            await secrets.put(sealed.document, other.sealed)
        with pytest.raises(RefusedError, match="attachment"):
            await secrets.put(sealed.document, sealed.sealed, other.sealed)

    @pytest.mark.parametrize(
        "change", [{"secret": "other"}, {"service": "tumors"}, {"policy_sha256": "ab" * 32}], ids=str
    )
    async def test_one_that_was_sealed_for_something_else(
        self, secrets: Secrets, change: dict[str, str]
    ) -> None:
        """Moved to another name, service or policy it does not open, whatever the document says."""
        fields = {
            "secret": "password",
            "service": "tumours",
            "policy": "models",
            "policy_sha256": digest(MODEL_POLICY),
            **change,
        }
        sealed = seal_secret(secrets.world.view.authority, PASSWORD, **fields)
        document = secrets.seal().document
        moved = msgspec.structs.replace(
            sealed.document, secret="password", service="tumours", policy_sha256=document.policy_sha256
        )
        with pytest.raises(RefusedError, match="attachment: expected one sealed for this secret"):
            await secrets.put(moved, sealed.sealed)
        assert secrets.stored() == set()

    async def test_another_value_than_its_owner_committed_to(self, secrets: Secrets) -> None:
        sealed, other = secrets.seal(), secrets.seal(b"something else")
        lie = msgspec.structs.replace(sealed.document, commitment=other.document.commitment)
        with pytest.raises(RefusedError, match=r"commitment: expected .* got that of another value"):
            await secrets.put(lie, sealed.sealed)

    async def test_each_version_comes_with_its_own(self, secrets: Secrets) -> None:
        first, second = secrets.seal(b"one"), secrets.seal(b"two")
        await secrets.put(first.document, first.sealed)
        with pytest.raises(RefusedError, match="attachment"):
            await secrets.put(second.document, version=2)
        await secrets.put(second.document, second.sealed, version=2)
        released = await secrets.released()
        assert {version: one.value for (_, version), one in released.items()} == {1: b"one", 2: b"two"}


class TestSecrecy:
    """The value is in no entry, no record, no event and no text."""

    async def test_nothing_shows_it(self, secrets: Secrets) -> None:
        sealed = secrets.seal()
        await secrets.put(sealed.document, sealed.sealed)
        await secrets.put(key_document())
        opened = await secrets.opened()
        key = find_secret(opened.release, "at-rest").value
        await secrets.world.service._audit.flush()
        view, storage = secrets.world.view, secrets.world.storage
        seen = b"".join(storage.entries(0, view.size)) + b"".join(storage.audit(0, 9))
        seen += secrets.world.lines.getvalue().encode() + repr((opened, opened.release, sealed)).encode()
        for value in (PASSWORD, key, sealed.salt, sealed.sealed):
            for form in (value, base64.b64encode(value), value.hex().encode(), repr(value).encode()[2:-1]):
                assert form not in seen
        assert "ReleasedSecret(redacted)" in repr(opened.release)

    async def test_the_record_names_what_was_released(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        await secrets.put(key_document(), version=2)
        await secrets.opened()
        record = secrets.record()
        assert record.secrets == (reference("at-rest", 2), reference("at-rest", 1))
        assert record.withheld == ()
        assert json.loads(encode_document(record))["secrets"][0] == {"secret": "at-rest", "secret_version": 2}


class TestPolicies:
    """A secret goes to an enclave that satisfies the secret's own policy."""

    async def put_policies(self, secrets: Secrets) -> None:
        await secrets.world.put_policy(NARROW, name="narrow")
        await secrets.world.put_policy(BOTH, name="both")

    async def test_one_that_the_enclave_does_not_satisfy(self, secrets: Secrets) -> None:
        """The release goes on without it, and the record says so."""
        await self.put_policies(secrets)
        await secrets.put(key_document(NARROW, policy="narrow", secret="narrow-key"))
        await secrets.put(key_document())
        assert set(await secrets.released()) == {("at-rest", 1)}
        assert secrets.record().withheld == (reference("narrow-key", 1),)
        assert secrets.record().secrets == (reference("at-rest", 1),)

    async def test_both_policies_count(self, secrets: Secrets) -> None:
        """Who satisfies the secret's policy and not the service's gets no release at all."""
        await self.put_policies(secrets)
        await secrets.put(key_document(NARROW, policy="narrow"))
        session = secrets.world.session(NEW_CODE)
        with pytest.raises(Exception, match="measurement"):
            await secrets.world.release(session)

    async def test_of_another_service(self, secrets: Secrets) -> None:
        world = secrets.world
        sealed = world.sealed_identity(service="others")
        body = world.document(world.manifest(sealed, service="others"), service="others")
        await world.service.control(world.message("services/others", 1, body, attachments=(sealed,)))
        await secrets.put(key_document(service="others", secret="theirs"))
        assert await secrets.released() == {}
        assert secrets.record().withheld == ()

    async def test_a_policy_that_was_replaced_since(self, secrets: Secrets) -> None:
        """The secret stands still until owners sign it anew."""
        await self.put_policies(secrets)
        await secrets.put(key_document(BOTH, policy="both"))
        assert set(await secrets.released()) == {("at-rest", 1)}
        await secrets.world.put_policy(AppraisalPolicy(accept=BOTH.accept[::-1]), name="both", version=2)
        assert await secrets.released() == {}
        assert secrets.record().withheld == (reference("at-rest", 1),)

    async def test_the_version_before_needs_its_own_policy_too(self, secrets: Secrets) -> None:
        """A wider policy does not give a value to enclaves that it was not signed for."""
        world = secrets.world
        await self.put_policies(secrets)
        await secrets.put(key_document())
        await secrets.put(key_document(BOTH, policy="both"), version=2)
        assert set(await secrets.released()) == {("at-rest", 1), ("at-rest", 2)}
        sealed = world.sealed_identity(policy=BOTH)
        body = world.document(world.manifest(sealed, policy=BOTH), under=BOTH, policy="both")
        await world.service.control(world.message("services/tumours", 2, body, attachments=(sealed,)))
        assert set(await secrets.released(NEW_CODE)) == {("at-rest", 2)}
        assert secrets.record().withheld == (reference("at-rest", 1),)
        assert set(await secrets.released()) == {("at-rest", 1), ("at-rest", 2)}

    async def test_a_narrower_one_holds_for_the_version_before_at_once(self, secrets: Secrets) -> None:
        await self.put_policies(secrets)
        await secrets.put(key_document())
        await secrets.put(key_document(NARROW, policy="narrow"), version=2)
        assert await secrets.released() == {}
        assert secrets.record().withheld == (reference("at-rest", 2), reference("at-rest", 1))


class TestChanges:
    """What owners may sign of a secret."""

    async def refused(self, secrets: Secrets, document: SecretDocument, **how: Any) -> list[str]:
        with pytest.raises(RefusedError) as refused:
            await secrets.put(document, **how)
        return [found.claim for found in refused.value.mismatches]

    async def test_it_names_itself(self, secrets: Secrets) -> None:
        assert await self.refused(secrets, key_document(), name="other") == ["secret"]

    async def test_its_service_exists(self, secrets: Secrets) -> None:
        assert await self.refused(secrets, key_document(service="tumors")) == ["service"]

    async def test_its_policy_exists(self, secrets: Secrets) -> None:
        assert await self.refused(secrets, key_document(policy="none")) == ["policy none"]
        assert await self.refused(secrets, key_document(NARROW)) == ["policy models"]

    async def test_it_stays_what_it_is(self, secrets: Secrets) -> None:
        world = secrets.world
        sealed = world.sealed_identity(service="others")
        body = world.document(world.manifest(sealed, service="others"), service="others")
        await world.service.control(world.message("services/others", 1, body, attachments=(sealed,)))
        await secrets.put(key_document())
        opaque = secrets.seal(secret="at-rest", service="others").document
        assert await self.refused(secrets, opaque, version=2) == [
            "service of the version before",
            "kind of the version before",
        ]

    async def test_everything_is_told_at_once(self, secrets: Secrets) -> None:
        document = key_document(NARROW, service="tumors")
        assert await self.refused(secrets, document, name="other") == ["secret", "policy models", "service"]

    async def test_a_service_has_so_many(self, secrets: Secrets) -> None:
        for number in range(12):
            await secrets.put(key_document(secret=f"key-{number}"))
        assert await self.refused(secrets, key_document()) == ["secrets of the service"]
        await secrets.put(key_document(secret="key-0"), version=2)

    @pytest.mark.parametrize("name", ["..", "a/b", "At-Rest", "аt-rest", "at-rest\n", "", "a" * 64])
    async def test_names_are_plain_labels(self, secrets: Secrets, name: str) -> None:
        fields = msgspec.to_builtins(key_document())
        body = json.dumps({**fields, "secret": name}).encode()
        with pytest.raises(DocumentMalformedError):
            await secrets.world.service.control(secrets.world.message("secrets/at-rest", 1, body))
        with pytest.raises(ConfigurationError):
            await secrets.world.service.control(secrets.world.message(f"secrets/{name}", 1, body))

    @pytest.mark.parametrize(
        "change",
        [{"kind": "password"}, {"version": 2}, {"value": "c2VjcmV0"}, {"sealed_sha256": "ab" * 32}],
        ids=str,
    )
    async def test_other_documents(self, secrets: Secrets, change: dict[str, Any]) -> None:
        body = json.dumps({**msgspec.to_builtins(key_document()), **change}).encode()
        with pytest.raises(DocumentMalformedError):
            await secrets.world.service.control(secrets.world.message("secrets/at-rest", 1, body))

    async def test_a_replay_rotates_nothing(self, secrets: Secrets) -> None:
        message = secrets.world.message("secrets/at-rest", 1, encode_document(key_document()))
        await secrets.world.service.control(message)
        first = (await secrets.released())["at-rest", 1].value
        await secrets.world.service.control(message)
        assert (await secrets.released())["at-rest", 1].value == first
        await secrets.put(key_document(), version=2)
        with pytest.raises(ConflictError):
            await secrets.world.service.control(message)


class TestDeletion:
    """A secret goes when its owners say so, and its values with it."""

    async def test_it_is_gone(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        await secrets.put(key_document(), version=2)
        await secrets.delete("secrets/at-rest", 3)
        assert await secrets.released() == {}
        assert secrets.stored() == set()

    async def test_a_new_one_of_its_name_has_none_before_it(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        await secrets.delete("secrets/at-rest", 2)
        sealed = secrets.seal(secret="at-rest")
        await secrets.put(sealed.document, sealed.sealed, version=3)
        assert set(await secrets.released()) == {("at-rest", 3)}

    async def test_what_it_needs_stays_until_then(self, secrets: Secrets) -> None:
        await secrets.world.put_policy(BOTH, name="both")
        await secrets.put(key_document(BOTH, policy="both"))
        with pytest.raises(ConflictError, match="is needed by secrets/at-rest"):
            await secrets.delete("policies/both", 2)
        with pytest.raises(ConflictError, match="is needed by secrets/at-rest"):
            await secrets.delete("services/tumours", 2)
        await secrets.delete("secrets/at-rest", 2)
        await secrets.delete("policies/both", 2)
        await secrets.delete("services/tumours", 2)

    async def test_there_must_be_one(self, secrets: Secrets) -> None:
        with pytest.raises(ConflictError, match="secrets/at-rest: expected one that stands"):
            await secrets.delete("secrets/at-rest", 1)


class TestStorage:
    """A stored value opens as itself alone."""

    async def test_names_bind_kind_service_name_version_and_policy(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        await secrets.put(key_document(), version=2)
        state = secrets.world.view.state
        policy = digest(MODEL_POLICY)
        assert [(one.kind, one.name, one.version) for one in secret_names(state.secrets)] == [
            ("secret-symmetric-key", "tumours/at-rest", f"2/{policy}"),
            ("secret-symmetric-key", "tumours/at-rest", f"1/{policy}"),
        ]
        assert set(secret_names(state.secrets)) == secrets.stored()

    async def test_a_host_that_swaps_two_versions(self, secrets: Secrets) -> None:
        await secrets.put(key_document())
        await secrets.put(key_document(), version=2)
        secret, storage = secrets.world.view.state.secrets["at-rest"], secrets.world.storage
        first, second = (secret_name(version) for version in secret.living)
        stored = {first: storage.secret(second), second: storage.secret(first)}
        secrets.world.keyring.vault.read(storage, first)
        for name, ciphertext in stored.items():
            with pytest.raises(StorageTamperedError):
                secrets.world.keyring.vault.unwrap(name, ciphertext)

    async def test_new_keys_of_the_deployment_wrap_it_anew(self, secrets: Secrets) -> None:
        """Covered by the names that are wrapped anew: a value lies under one of them."""
        from s3ml.keyservice.governing import stored_names

        await secrets.put(key_document())
        assert secrets.stored() <= set(stored_names(secrets.world.view.state))


class TestOpaqueDocument:
    """The document of an opaque secret says what it needs to."""

    def test_it_tells_nothing_of_the_value(self, world: World) -> None:
        fields = set(OpaqueSecretDocument.__struct_fields__)
        assert fields == {
            "version",
            "secret",
            "service",
            "policy",
            "policy_sha256",
            "sealed_sha256",
            "commitment",
        }
