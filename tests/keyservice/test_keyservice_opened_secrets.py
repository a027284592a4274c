"""What releases hold is opened once, kept while it lives, and wiped from memory when it no longer does."""

from pathlib import Path

import pytest

from s3ml.keyservice.generations import Generations
from s3ml.keyservice.storage import SecretName, SQLiteStorage, Storage
from s3ml.keyservice.upkeep import names_released
from s3ml.keyservice.vault import Vault, epoch_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.secret import SecretBytes
from tests.clocks import NOW
from tests.keyservice.keyservice_world import MODEL_SERVER_CODE, World, policy_of

KEY = SecretBytes(bytes(range(32)))
NAME, OTHER = epoch_name("tumours", 1), epoch_name("tumours", 2)


class Counting:
    """A storage that counts how often secrets are asked for."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.asked: list[SecretName] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def secret(self, name: SecretName) -> bytes | None:
        self.asked.append(name)
        return self._storage.secret(name)


class Shelf(Counting):
    """A storage of two secrets."""

    def __init__(self, vault: Vault) -> None:
        self.asked = []
        self.stored = {name: vault.wrap(name, name.version.encode()).ciphertext for name in (NAME, OTHER)}

    def secret(self, name: SecretName) -> bytes | None:
        self.asked.append(name)
        return self.stored.get(name)


@pytest.fixture
def vault() -> Vault:
    return Vault(KEY, "ab" * 32)


class TestVault:
    """A vault remembers what it opened until it is told that it no longer lives."""

    def test_a_secret_is_read_once(self, vault: Vault) -> None:
        storage = Shelf(vault)
        assert [vault.recall(storage, NAME) for _ in range(3)] == [b"1"] * 3  # type: ignore[arg-type]
        assert storage.asked == [NAME]

    def test_what_was_changed_is_not_remembered(self, vault: Vault) -> None:
        storage = Shelf(vault)
        storage.stored[NAME] = storage.stored[OTHER]
        for _ in range(2):
            with pytest.raises(StorageTamperedError):
                vault.recall(storage, NAME)  # type: ignore[arg-type]
        assert storage.asked == [NAME] * 2

    def test_what_no_longer_lives_is_wiped_and_the_rest_stays(self, vault: Vault) -> None:
        storage = Shelf(vault)
        for name in (NAME, OTHER):
            vault.recall(storage, name)  # type: ignore[arg-type]
        gone, kept = vault._opened[NAME], vault._opened[OTHER]
        vault.retain({OTHER})
        assert (len(gone), kept.reveal()) == (0, b"2")
        storage.stored.clear()
        assert vault.recall(storage, OTHER) == b"2"  # type: ignore[arg-type]
        with pytest.raises(StorageTamperedError, match="is missing"):
            vault.recall(storage, NAME)  # type: ignore[arg-type]

    def test_nothing_outlives_its_generation(self) -> None:
        generations = Generations("ab" * 32)
        held = generations.vault(generations.newest(NOW))
        assert held is not None
        held.recall(Shelf(held), NAME)  # type: ignore[arg-type]
        opened = held._opened[NAME]
        generations.clear()
        assert len(opened) == 0


class TestReplica:
    """Releases open each secret once; a replica's next step wipes what the log has ended."""

    async def test_later_releases_ask_storage_for_no_secret(self, tmp_path: Path) -> None:
        counting: list[Counting] = []

        def wrapped(storage: Storage) -> Storage:
            counting.append(Counting(storage))
            return counting[0]  # type: ignore[return-value]

        world = World(tmp_path / "log.sqlite", wrap_storage=wrapped)
        await world.serve()
        counting[0].asked.clear()
        for _ in range(3):
            session = world.session()
            assert session.open(await world.release(session)).release.models
        assert sorted(name.kind for name in counting[0].asked) == ["epoch-keys", "model-identity"]
        world.stop()

    async def test_a_narrowed_policy_wipes_what_it_ends(self, serving: World) -> None:
        session = serving.session()
        session.open(await serving.release(session))
        keyring = serving.keyring
        vaults = [keyring.vault, *keyring.generations._vaults.values()]
        opened = [secret for vault in vaults for secret in vault._opened.values()]
        assert [len(secret) > 0 for secret in opened] == [True, True]
        narrowed = policy_of(MODEL_SERVER_CODE, min_qe_svn=1)
        await serving.put_policy(narrowed, version=2)
        await serving.put_service(version=2, policy=narrowed)
        await serving.service.membership._step()
        assert [len(secret) for secret in opened] == [0, 0]

    async def test_what_lives_stays(self, serving: World) -> None:
        session = serving.session()
        session.open(await serving.release(session))
        await serving.service.membership._step()
        keyring = serving.keyring
        vaults = [keyring.vault, *keyring.generations._vaults.values()]
        held = {name for vault in vaults for name in vault._opened}
        assert held == names_released(serving.view.state)

    async def test_a_replaced_keyring_keeps_nothing_open(self, serving: World) -> None:
        session = serving.session()
        session.open(await serving.release(session))
        old = serving.keyring
        (identity,) = old.vault._opened.values()
        fresh = type(old).around(old.wrapping_key, old.number, old.vault.deployment, old.deployment)
        serving.service.replica.admit(fresh.with_generations(old.generations))
        assert len(identity) == 0


class TestReadingAhead:
    """The audit stream is read in few pieces, however many entries commit to it."""

    async def test_many_entries_take_one_read(self, serving: World) -> None:
        for _ in range(6):
            session = serving.session()
            session.open(await serving.release(session))
            await serving.service._audit.flush()
        reads: list[tuple[int, int]] = []
        read = SQLiteStorage.audit

        def audit(self: SQLiteStorage, start: int, end: int) -> list[bytes]:
            reads.append((start, end))
            return read(self, start, end)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SQLiteStorage, "audit", audit)
            await serving.restart()
        assert len(reads) == 1
        assert serving.view.state.audited == 6
