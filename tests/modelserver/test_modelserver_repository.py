"""What is served follows from the release; a store only holds bytes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3ml.bundle import ModelFiles
from s3ml.keyservice.documents import ReleasedModel
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.models import ModelSet
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.runtimes import ModelUnusableError
from s3ml.modelserver.store import BundleStore
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.signing import SigningKey
from tests.modelserver.conftest import BUDGET_BYTES, Replica, World, linear


def served(models: ModelSet) -> set[tuple[str, str]]:
    return set(models.models)


class TestSynchronisation:
    """Loaded models are those of the newest release."""

    def test_what_is_released_is_loaded(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        world.publish(linear(2), version="2")
        world.publish(linear(), model="other")
        result = replica.repository.synchronise(world.release())

        assert served(result.models) == {("tumours", "1"), ("tumours", "2"), ("other", "1")}
        assert result.failures == ()

    def test_what_is_loaded_stays_as_it_is(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        first = replica.repository.synchronise(world.release()).models.find("tumours", None)
        for path in world.store.rglob("*.s3ml"):
            path.unlink()

        assert replica.repository.synchronise(world.release()).models.find("tumours", "1") is first

    def test_what_is_not_released_any_more_goes(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        world.publish(linear(), version="2")
        replica.repository.synchronise(world.release())
        del world.models["tumours", "1"]

        assert served(replica.repository.synchronise(world.release()).models) == {("tumours", "2")}
        assert replica.events[-1]["event"] == "model-unloaded"

    def test_another_manifest_for_the_same_version_is_loaded_anew(
        self, world: World, replica: Replica
    ) -> None:
        world.publish(linear())
        first = replica.repository.synchronise(world.release()).models.find("tumours", "1")
        world.publish(linear(2))

        assert replica.repository.synchronise(world.release()).models.find("tumours", "1") is not first

    def test_what_was_let_go_is_loaded_again(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        first = replica.repository.synchronise(world.release()).models.find("tumours", "1")
        replica.repository.clear()

        assert replica.repository.synchronise(world.release()).models.find("tumours", "1") is not first

    def test_one_that_fails_leaves_the_others_alone(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        world.publish(linear(), version="2")
        (world.store / "tumours" / "1.s3ml").unlink()
        result = replica.repository.synchronise(world.release())

        assert (served(result.models), len(result.failures)) == ({("tumours", "2")}, 1)

    def test_the_same_failure_is_written_once(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        (world.store / "tumours" / "1.s3ml").unlink()
        for _ in range(3):
            assert replica.repository.synchronise(world.release()).failures

        assert [event["event"] for event in replica.events].count("model-failed") == 1

    def test_too_little_memory_is_a_failure_of_that_model(self, world: World, replica: Replica) -> None:
        def exhausted(_files: ModelFiles) -> Any:
            raise MemoryError

        world.publish(linear())
        repository = Repository(
            BundleStore(str(world.store)),
            open_runtime=exhausted,
            budget=MemoryBudget(BUDGET_BYTES),
            log=replica.repository._log,
        )

        assert len(repository.synchronise(world.release()).failures) == 1
        assert replica.events[-1]["error"] == "too little memory"

    def test_a_model_that_cannot_be_opened_is_a_failure(self, world: World, replica: Replica) -> None:
        def refuse(_files: ModelFiles) -> Any:
            raise ModelUnusableError("model: no")

        world.publish(linear())
        repository = Repository(
            BundleStore(str(world.store)),
            open_runtime=refuse,
            budget=MemoryBudget(BUDGET_BYTES),
            log=replica.repository._log,
        )

        assert len(repository.synchronise(world.release()).failures) == 1


def swap(world: World) -> None:
    world.publish(linear(), version="2")
    (world.store / "tumours" / "2.s3ml").rename(world.store / "tumours" / "1.s3ml")
    del world.models["tumours", "2"]


def resign(world: World) -> None:
    stranger = SigningKey.generate()
    released = world.models["tumours", "1"]
    stripped = Envelope(payload_type=released.manifest.payload_type, payload=released.manifest.payload)
    world.models["tumours", "1"] = ReleasedModel(
        manifest=stripped.with_signature(stranger), identity=released.identity
    )


def truncate(world: World) -> None:
    path = world.store / "tumours" / "1.s3ml"
    os.truncate(path, path.stat().st_size - 2000)


def wrong_identity(world: World) -> None:
    other = world.publish(linear(), model="other").identity
    released = world.models["tumours", "1"]
    del world.models["other", "1"]
    world.models["tumours", "1"] = ReleasedModel(manifest=released.manifest, identity=other)


def republish(**changes: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.publish(linear(), **changes)

    return change


def garble_manifest(world: World) -> None:
    released = world.models["tumours", "1"]
    broken = Envelope(payload_type=released.manifest.payload_type, payload=b"{}").with_signature(world.owner)
    world.models["tumours", "1"] = ReleasedModel(manifest=broken, identity=released.identity)


class TestRefusedModels:
    """Each rule, broken alone, keeps the model out and names itself."""

    @pytest.mark.parametrize(
        ("break_rule", "line"),
        [
            (resign, "expected 1 of the named keys, got 0"),
            (republish(deployment="0" * 64), "expected deployment, service and policy"),
            (republish(service="other"), "expected deployment, service and policy"),
            (republish(policy_sha256="0" * 64), "expected deployment, service and policy"),
            (garble_manifest, "model manifest"),
            (swap, "expected the released manifest, got another"),
            (truncate, "truncated"),
            (wrong_identity, "the identity does not open it"),
            (republish(payload_sha256="0" * 64), "expected SHA-256"),
        ],
    )
    def test_it_is_not_loaded(
        self, world: World, replica: Replica, break_rule: Callable[[World], None], line: str
    ) -> None:
        world.publish(linear())
        break_rule(world)
        result = replica.repository.synchronise(world.release())

        assert (len(result.models), len(result.failures)) == (0, 1)
        assert line in replica.events[-1]["error"]
        assert "AGE-SECRET-KEY" not in replica.log.getvalue()


class TestModelSet:
    """Versions are numbers."""

    def test_ten_comes_after_nine(self, world: World, replica: Replica) -> None:
        for version in ("9", "10"):
            world.publish(linear(), version=version)
        models = replica.repository.synchronise(world.release()).models

        assert models.versions("tumours") == ("9", "10")
        newest = models.find("tumours", None)
        assert newest is not None
        assert newest.version == "10"

    def test_an_unknown_name_finds_nothing(self) -> None:
        assert ModelSet().find("absent", None) is None


class TestStore:
    """A folder is a store, and so is what fsspec reaches."""

    def test_a_path_and_a_file_url_are_the_same(self, tmp_path: Path) -> None:
        folder = tmp_path / "a folder"
        folder.mkdir()
        (folder / "b").write_bytes(b"bundle")
        for base in (str(folder), folder.as_uri(), folder.as_uri() + "/"):
            with BundleStore(base).open("b") as file:
                assert file.read() == b"bundle"

    def test_fsspec_reaches_the_rest(self) -> None:
        import fsspec

        filesystem = fsspec.filesystem("memory")
        filesystem.pipe("/models/tumours/1.s3ml", b"bundle")
        with BundleStore("memory://models").open("tumours/1.s3ml") as file:
            assert file.read() == b"bundle"
        filesystem.rm("/models", recursive=True)

    @pytest.mark.parametrize("base", ["/absent", "memory://absent"])
    def test_a_missing_bundle_may_come_later(self, base: str) -> None:
        with (
            pytest.raises(UnavailableError, match=r"bundle m/1\.s3ml: cannot be read"),
            BundleStore(base).open("m/1.s3ml"),
        ):
            raise AssertionError

    @pytest.mark.parametrize(
        "base", ["carrier-pigeon://x", "filecache::memory://x", "zip://a::file:///b", "local:///x", "ftp://x"]
    )
    def test_another_kind_of_url_is_refused(self, base: str) -> None:
        """Caches and wrappers would do more with the host's files than read a bundle."""
        with pytest.raises(ConfigurationError, match="S3ML_BUNDLES: expected a folder or a URL of"):
            BundleStore(base)

    def test_what_the_host_configured_for_fsspec_counts_for_nothing(self) -> None:
        from fsspec.config import conf

        conf["memory"] = {"nonsense": True}
        with pytest.raises(UnavailableError), BundleStore("memory://absent").open("m/1.s3ml"):
            raise AssertionError
        assert conf == {}

    def test_a_store_that_fails_halfway_may_recover(self, tmp_path: Path) -> None:
        (tmp_path / "b").touch()
        with (
            pytest.raises(UnavailableError, match="TimeoutError"),
            BundleStore(str(tmp_path)).open("b"),
        ):
            raise TimeoutError
