"""Packing is bounded, atomic, and keeps its secret."""

import errno
import hashlib
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import s3ml.bundle
from s3ml.bundle import (
    Batching,
    Declaration,
    DeclaredTensor,
    Resources,
    bundle_location,
    encrypt_payload,
    open_bundle,
    write_bundle,
)
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES, Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB
from tests.bundle.conftest import Packed, silent

MANIFEST = Envelope(payload_type="application/vnd.test", payload=b"{}")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestEncryption:
    """A payload opens with the identity that was made for it, and with nothing else."""

    def test_every_payload_has_an_identity_of_its_own(
        self, pack: Callable[[Path], Packed], model_file: Path
    ) -> None:
        assert pack(model_file).identity != pack(model_file).identity

    def test_the_digest_and_size_are_those_of_the_file(self, tmp_path: Path, packed: Packed) -> None:
        assert packed.sha256 == hashlib.sha256((tmp_path / "payload.age").read_bytes()).hexdigest()

    def test_what_comes_out_is_what_went_in(self, packed: Packed, model_folder: Path) -> None:
        assert dict(packed.open().files) == {p.name: p.read_bytes() for p in model_folder.iterdir()}

    def test_progress_runs_to_its_total_without_a_step_back(self, model_folder: Path, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        encrypt_payload(model_folder, tmp_path / "p.age", progress=lambda *step: seen.append(step))

        done = [step[0] for step in seen]
        assert done == sorted(done)
        assert seen[-1][0] == seen[-1][1] == 2 * sum(p.stat().st_size for p in model_folder.iterdir())

    def test_what_is_declared_is_listed(self, model_file: Path, tmp_path: Path) -> None:
        declaration = Declaration(
            inputs=(DeclaredTensor(name="x", datatype="FP32", shape=(-1, 3)),),
            batching=Batching(max_size=8, max_delay_us=500),
            resources=Resources(memory_bytes=1 << 20),
        )
        made = encrypt_payload(model_file, tmp_path / "p.age", progress=silent, declaration=declaration)
        config = Packed((tmp_path / "p.age").read_bytes(), made.identity, made.sha256).open().config

        assert (config.inputs, config.outputs) == (declaration.inputs, ())
        assert (config.batching, config.resources) == (declaration.batching, declaration.resources)

    def test_the_identity_shows_in_no_repr(self, model_file: Path, tmp_path: Path) -> None:
        made = encrypt_payload(model_file, tmp_path / "p.age", progress=silent)

        assert made.identity.startswith("AGE-SECRET-KEY-1")
        assert "AGE-SECRET" not in f"{made} {made!r}"


class TestBoundedMemory:
    """Memory does not grow with the model."""

    def peak_bytes(self, folder: Path, size_bytes: int) -> int:
        with (folder / "w.bin").open("r+b") as file:
            file.truncate(size_bytes)
        tracemalloc.start()
        try:
            encrypt_payload(folder, folder.parent / "p.age", progress=silent)
            write_bundle(folder.parent / "b.s3ml", MANIFEST, folder.parent / "p.age")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_a_model_eight_times_the_size_takes_no_more(self, model_folder: Path) -> None:
        small = self.peak_bytes(model_folder, 4 * MIB)
        large = self.peak_bytes(model_folder, 32 * MIB)

        assert large < small + MIB
        assert large < 6 * MIB


class Interruption(BaseException):
    """What Ctrl-C is, without its effect on the test run."""


class TestNothingHalfWritten:
    """A file appears whole or not at all."""

    def test_an_interrupted_packing_leaves_nothing(self, model_file: Path, tmp_path: Path) -> None:
        def interrupt(done: int, total: int) -> None:
            if done == total:
                raise Interruption

        with pytest.raises(Interruption):
            encrypt_payload(model_file, tmp_path / "p.age", progress=interrupt)

        assert names(tmp_path) == {model_file.name}

    def test_an_interrupted_packing_keeps_what_was_there(self, model_file: Path, tmp_path: Path) -> None:
        (tmp_path / "p.age").write_bytes(b"older")

        def interrupt(done: int, total: int) -> None:
            if done == total:
                raise Interruption

        with pytest.raises(Interruption):
            encrypt_payload(model_file, tmp_path / "p.age", progress=interrupt)

        assert (tmp_path / "p.age").read_bytes() == b"older"

    def test_a_file_that_changes_meanwhile_is_refused(self, model_file: Path, tmp_path: Path) -> None:
        def change(done: int, total: int) -> None:
            if done == total // 2:
                model_file.write_bytes(bytes(model_file.stat().st_size))

        with pytest.raises(ConfigurationError, match="changed while it was packed"):
            encrypt_payload(model_file, tmp_path / "p.age", progress=change)

        assert names(tmp_path) == {model_file.name}

    def test_a_missing_folder_is_said_so(self, model_file: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
            encrypt_payload(model_file, tmp_path / "absent" / "p.age", progress=silent)

    @pytest.mark.parametrize("size_bytes", [100, 400_000])
    def test_a_full_disk_is_noticed_however_late(
        self, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
    ) -> None:
        """What fails in the last flush of the cipher must fail too."""
        with (model_folder / "w.bin").open("r+b") as file:
            file.truncate(size_bytes)
        real = os.fdopen

        def full(descriptor: int, mode: str) -> Any:
            file = real(descriptor, mode, buffering=0)

            class Full(io.RawIOBase):
                def write(self, _data: object) -> int:
                    raise OSError(errno.ENOSPC, "No space left on device")

                def close(self) -> None:
                    file.close()

            return Full()

        monkeypatch.setattr(os, "fdopen", full)
        with pytest.raises(ConfigurationError, match="No space left on device"):
            encrypt_payload(model_folder, tmp_path / "p.age", progress=silent)

        assert names(tmp_path) == {"model"}


class TestBundleFile:
    """A bundle is the manifest, and then the payload."""

    def test_both_come_back(self, packed: Packed, tmp_path: Path) -> None:
        path = tmp_path / "store" / bundle_location("tumours", "3")
        write_bundle(path, MANIFEST, tmp_path / "payload.age")

        with path.open("rb") as file:
            bundle = open_bundle(file)
            assert bundle.manifest == MANIFEST
            assert dict(packed.open(stream=bundle.payload).files)

    def test_it_lies_under_its_model_and_version(self) -> None:
        assert bundle_location("tumours", "3") == "tumours/3.s3ml"

    def test_an_oversized_manifest_is_refused(self, packed: Packed, tmp_path: Path) -> None:
        manifest = Envelope(payload_type="t", payload=bytes(ENVELOPE_LIMIT_BYTES))

        with pytest.raises(ConfigurationError, match="manifest: expected at most"):
            write_bundle(tmp_path / "b.s3ml", manifest, tmp_path / "payload.age")

    def test_a_missing_payload_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
            write_bundle(tmp_path / "b.s3ml", MANIFEST, tmp_path / "absent.age")

        assert names(tmp_path) == set()

    def test_a_store_that_cannot_be_written_is_said_so(self, packed: Packed, tmp_path: Path) -> None:
        (tmp_path / "store").touch()

        with pytest.raises(ConfigurationError, match=r"b\.s3ml: cannot be written: Not a directory"):
            write_bundle(tmp_path / "store" / "b.s3ml", MANIFEST, tmp_path / "payload.age")

    def test_a_payload_that_shrinks_meanwhile_leaves_nothing(
        self, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fstat

        def longer(descriptor: int) -> os.stat_result:
            values = list(real(descriptor))
            values[6] += 1
            return os.stat_result(values)

        monkeypatch.setattr("s3ml.bundle.packing.os.fstat", longer)
        with pytest.raises(ConfigurationError, match="changed while it was copied"):
            write_bundle(tmp_path / "b.s3ml", MANIFEST, tmp_path / "payload.age")

        assert "b.s3ml" not in names(tmp_path)


def test_the_package_exports_what_it_says() -> None:
    """The public names are pinned."""
    assert sorted(s3ml.bundle.__all__) == [
        "Batching",
        "BundleMalformedError",
        "BundleRejectedError",
        "Declaration",
        "DeclaredTensor",
        "EncryptedPayload",
        "ListedFile",
        "ModelConfig",
        "ModelFiles",
        "OpenBundle",
        "PayloadStream",
        "Resources",
        "RuntimeName",
        "Source",
        "SourceFile",
        "bundle_location",
        "check_litert",
        "decrypt_payload",
        "encrypt_payload",
        "external_locations",
        "inspect_source",
        "open_bundle",
        "write_bundle",
    ]
