"""What owners change: who has to sign, what they are shown, and how long keys are used."""

from pathlib import Path

import msgspec
import pytest

from s3ml.apps.cli.signing import read_message, sign_and_send
from s3ml.apps.governance.amendments import (
    explain_effects,
    key_service_body,
    owners_body,
    standing_body,
)
from s3ml.apps.governance.changes import Deployment, describe_times, read_statement
from s3ml.attestation import encode_policy
from s3ml.keyservice.client import KeyServiceClient, control_message
from s3ml.keyservice.documents import (
    AnonymousCallers,
    ControlMessage,
    DeletedReply,
    ResourcesReply,
    ServiceDocument,
    ServiceTimes,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.signing import SigningKey
from tests.clocks import NOW
from tests.keyservice.keyservice_world import (
    KEY_SERVICE_POLICY,
    MODEL_OWNER,
    MODEL_POLICY,
    NONCE,
    OWNER_KEYS,
    World,
)

ADA, BO, CY = OWNER_KEYS
DEE, EVE = (SigningKey.from_raw(bytes([n]) * 32) for n in (11, 12))


@pytest.fixture
async def deployment(tmp_path: Path) -> Deployment:
    world = World(path=tmp_path / "log.sqlite")
    await world.begin()
    return Deployment(authority=world.view.authority, client=KeyServiceClient("http://127.0.0.1:1"))


def change(deployment: Deployment, resource: str, body: bytes) -> ControlMessage:
    return control_message(
        deployment=deployment.authority.deployment,
        resource=resource,
        resource_version=1,
        previous_sha256="",
        body=body,
        nonce=NONCE,
        now=NOW,
    )


def owners(*keys: SigningKey, threshold: int = 2) -> bytes:
    return owners_body([(f"owner-{n}", key.public) for n, key in enumerate(keys)], threshold=threshold)


def service(times: ServiceTimes | None = None) -> bytes:
    return encode_document(
        ServiceDocument(
            service="tumours",
            policy="p",
            policy_sha256="0" * 64,
            callers=(AnonymousCallers(),),
            model_owners=(str(MODEL_OWNER.public),),
            models=(Envelope(payload_type="a/b", payload=b"{}"),),
            times=times or ServiceTimes(),
        )
    )


class TestNewOwners:
    """Enough of the owners before, and enough of those after, sign one and the same message."""

    async def test_who_is_to_be_an_owner_signs(self, deployment: Deployment) -> None:
        message = change(deployment, "deployment/owners", owners(ADA, DEE, EVE))
        for key, missing in ((ADA, 1), (BO, 1), (DEE, 0)):
            message = deployment.sign(message, key)
            assert deployment.missing_signatures(message) == missing

    async def test_today_s_owners_alone_are_too_few(self, deployment: Deployment) -> None:
        message = change(deployment, "deployment/owners", owners(DEE, EVE, threshold=1))
        for key in (ADA, BO):
            message = deployment.sign(message, key)
        assert deployment.missing_signatures(message) == 1

    async def test_a_stranger_signs_nothing(self, deployment: Deployment) -> None:
        message = change(deployment, "deployment/owners", owners(ADA, DEE))
        with pytest.raises(ConfigurationError, match="none of the deployment owners'"):
            deployment.sign(message, EVE)

    async def test_nor_does_a_new_owner_sign_anything_else(self, deployment: Deployment) -> None:
        with pytest.raises(ConfigurationError, match="none of the deployment owners'"):
            deployment.sign(change(deployment, "policies/p", b"{}"), DEE)

    async def test_a_body_that_names_no_owners(self, deployment: Deployment) -> None:
        with pytest.raises(ConfigurationError, match="message: "):
            deployment.sign(change(deployment, "deployment/owners", b"{}"), ADA)


class TestKeyServicePolicy:
    """Signers see how the new policy differs, the first time and every time after."""

    async def test_against_genesis(self, deployment: Deployment) -> None:
        standing = standing_body(deployment.authority, "deployment/key-service")
        new = key_service_body(encode_policy(KEY_SERVICE_POLICY))
        lines = explain_effects("deployment/key-service", "PUT", standing, new)
        assert lines[0].startswith("The deployment gets NEW KEYS.")
        assert lines[1] == "Against the policy that stands it is identical."

    def test_against_a_later_one(self) -> None:
        old, new = (key_service_body(encode_policy(one)) for one in (KEY_SERVICE_POLICY, MODEL_POLICY))
        lines = explain_effects("deployment/key-service", "PUT", old, new)
        assert any(line.startswith("WIDENS: ") for line in lines)


class TestWhatWasTakenAway:
    """It may come back: its version goes on counting."""

    @pytest.mark.parametrize(("name", "version"), [("spare", 3), ("other", 1)])
    async def test_a_draft_counts_on(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, name: str, version: int
    ) -> None:
        gone = DeletedReply(resource="policies/spare", resource_version=2, log_index=7)
        listed = ResourcesReply(resources=(), deleted=(gone,))
        monkeypatch.setattr(deployment.client, "resources", lambda: listed)
        statement = read_statement(deployment.draft(f"policies/{name}", b"{}", now=NOW))
        assert (statement.resource_version, statement.previous_sha256) == (version, "")


class TestNoAnswer:
    """A change that was signed and not answered is kept: sent again, it takes effect once."""

    async def test_it_is_kept(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(deployment.client, "resources", lambda: ResourcesReply(resources=()))
        keys = []
        for name, key in (("ada", ADA), ("bo", BO)):
            (tmp_path / f"{name}.key").write_bytes(key.to_pem())
            (tmp_path / f"{name}.key").chmod(0o600)
            keys.append(tmp_path / f"{name}.key")
        message = deployment.draft("deployment/owners", owners(ADA, BO, threshold=1), now=NOW)
        with pytest.raises(UnavailableError):
            sign_and_send(deployment, message, keys=tuple(keys), output=tmp_path / "owners.change.json")
        kept = read_message(tmp_path / "owners.change.json")
        assert kept is not None
        assert kept.statement.payload == message.statement.payload
        assert deployment.missing_signatures(kept) == 0


class TestTimes:
    """Signers see how long keys are used, and that it changes."""

    def test_in_words(self) -> None:
        told = describe_times(ServiceTimes(epoch_s=3600, lease_s=60, bundle_s=120))
        assert all(words in told for words in ("every 3,600 s", "for 60 s", "for 120 s"))

    def test_a_change(self) -> None:
        (line, _) = explain_effects("services/tumours", "PUT", service(), service(ServiceTimes(lease_s=60)))
        assert line == f"Its times CHANGE. Before: {describe_times(ServiceTimes())}"

    def test_replicas_follow_at_the_renewal_of_the_lease_that_stands(self) -> None:
        short, long = service(ServiceTimes(lease_s=61)), service(ServiceTimes(lease_s=300))
        assert "within 21 s" in explain_effects("services/tumours", "PUT", short, long)[-1]
        assert "within 100 s" in explain_effects("services/tumours", "PUT", long, short)[-1]

    def test_no_change(self) -> None:
        assert explain_effects("services/tumours", "PUT", service(), service()) == []

    def test_the_defaults(self) -> None:
        assert msgspec.to_builtins(ServiceTimes()) == {"epoch_s": 86400, "lease_s": 300, "bundle_s": 600}
