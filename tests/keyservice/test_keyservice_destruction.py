"""What is gone stays gone: retired keys, other deployments' secrets, a host's earlier clock, a halted log."""

from datetime import timedelta

import pytest

from s3ml.attestation import EvidenceRejectedError
from s3ml.keyservice.client import ReleaseSession
from s3ml.keyservice.log import LogTamperedError
from s3ml.keyservice.vault import Vault, deployment_key_name, epoch_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.secret import SecretBytes
from tests.clocks import NOW
from tests.keyservice.keyservice_world import (
    MODEL_POLICY,
    MODEL_SERVER_CODE,
    PKI,
    InProcessAttester,
    World,
    policy_of,
)

NAME = deployment_key_name("statement", 1)


class TestRetiredEpochs:
    """The private keys of an epoch leave storage when it retires."""

    async def test_a_narrowed_policy_deletes_the_keys_that_it_ends(self, serving: World) -> None:
        assert serving.storage.secret(epoch_name("tumours", 1)) is not None
        narrowed = policy_of(MODEL_SERVER_CODE, min_qe_svn=1)
        await serving.put_policy(narrowed, version=2)
        await serving.put_service(version=2, policy=narrowed)
        assert serving.storage.secret(epoch_name("tumours", 1)) is None

    async def test_a_restart_deletes_those_from_before(self, serving: World) -> None:
        await serving.restart()
        assert serving.storage.secret(epoch_name("tumours", 1)) is None
        assert serving.storage.secret(epoch_name("tumours", 2)) is not None


class TestStoredSecrets:
    """A secret opens under its own deployment alone."""

    def test_another_deployment_with_the_same_key_opens_nothing(self) -> None:
        key = SecretBytes(bytes(range(32)))
        wrapped = Vault(key, "ab" * 32).wrap(NAME, b"secret")
        assert Vault(key, "ab" * 32).unwrap(NAME, wrapped.ciphertext) == b"secret"
        with pytest.raises(StorageTamperedError):
            Vault(key, "cd" * 32).unwrap(NAME, wrapped.ciphertext)


class TestTime:
    """Turning the host's clock back revives no collateral."""

    async def test_what_newer_collateral_outdated_stays_rejected(self, serving: World) -> None:
        old = PKI.collateral(NOW)
        serving.clock.advance(40 * 24 * 3600)
        newer = PKI.collateral(serving.clock.now())
        await serving.release(
            ReleaseSession("tumours", InProcessAttester(MODEL_SERVER_CODE, collateral=newer))
        )
        serving.clock.time = NOW + timedelta(hours=1)
        with pytest.raises(EvidenceRejectedError) as rejected:
            await serving.release(
                ReleaseSession("tumours", InProcessAttester(MODEL_SERVER_CODE, collateral=old))
            )
        assert "collateral_validity" in {mismatch.claim for mismatch in rejected.value.mismatches}

    async def test_the_twin_with_no_newer_collateral_is_accepted(self, serving: World) -> None:
        old = PKI.collateral(NOW)
        serving.clock.time = NOW + timedelta(hours=1)
        await serving.release(ReleaseSession("tumours", InProcessAttester(MODEL_SERVER_CODE, collateral=old)))


class TestHaltedLog:
    """Where another hand changed the stored log, nothing is released any more, until it is right again."""

    async def test_neither_keys_nor_statements_leave(self, serving: World) -> None:
        challenge = serving.service.challenge(serving.session().challenge_request())
        execute = serving.storage._connection.execute
        execute("UPDATE head SET size = size + 1")
        with pytest.raises(LogTamperedError, match="number of entries"):
            await serving.put_policy(MODEL_POLICY, name="others")
        assert not serving.service.is_ready
        with pytest.raises(LogTamperedError, match="number of entries"):
            serving.service.challenge(serving.session().challenge_request())
        with pytest.raises(LogTamperedError, match="number of entries"):
            await serving.service.release(serving.session().answer(challenge))
        with pytest.raises(LogTamperedError, match="number of entries"):
            await serving.bundle()
        execute("UPDATE head SET size = size - 1")
        assert (await serving.put_policy(MODEL_POLICY, name="others")).log_size == serving.view.size
        assert serving.service.is_ready
