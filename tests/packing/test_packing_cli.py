"""`s3ml model pack` and `convert`, with the key service played: what is said, written and refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import msgspec
import onnx
import pytest
from click.testing import CliRunner, Result

from s3ml.apps.cli.root import cli
from s3ml.apps.governance.keys import generate_key_files
from s3ml.apps.governance.models import bundle_path
from s3ml.bundle import Batching, ModelConfig, ModelFiles, decrypt_payload, open_bundle
from s3ml.keyservice.documents import ModelManifest
from s3ml.primitives.errors import ConfigurationError


@dataclass
class Owner:
    """A model owner's desk: a key, a store, and the identities that would be sealed to a deployment."""

    folder: Path
    identities: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def packed(self) -> list[tuple[str, str]]:
        return sorted(self.identities)

    def seal_identity(self, _authority: object, identity: str, **stated: str) -> bytes:
        """Keep what only the key service could open."""
        self.identities[stated["model"], stated["model_version"]] = identity
        return b"sealed"

    def files(self, model: str = "tumours", version: str = "1") -> ModelFiles:
        """Open a bundle as the model server does."""
        with bundle_path(self.store, model, version).open("rb") as file:
            bundle = open_bundle(file)
            manifest = msgspec.json.decode(bundle.manifest.payload, type=ModelManifest)
            return decrypt_payload(
                bundle.payload,
                self.identities[model, version],
                expected_sha256=manifest.payload_sha256,
                expected_bytes=manifest.payload_bytes,
                limit_bytes=1 << 20,
            )

    def config(self, model: str = "tumours", version: str = "1") -> ModelConfig:
        return self.files(model, version).config

    def run(self, *arguments: object) -> Result:
        key, trust = self.folder / "owner.key", self.folder / "trust.toml"
        place = [
            "--service",
            "tumours",
            "--policy",
            "p",
            "--store",
            self.store,
            "--key",
            key,
            "--trust",
            trust,
        ]
        return CliRunner().invoke(cli, ["model", "pack", *map(str, (*arguments, *place))])


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owner:
    folder = tmp_path / "owner"
    folder.mkdir()
    generate_key_files(folder / "owner")
    made = Owner(folder)
    deployment = SimpleNamespace(
        authority=None,
        genesis=SimpleNamespace(deployment="d" * 64),
        governed_policy=lambda _name: SimpleNamespace(body_sha256="0" * 64),
    )
    monkeypatch.setattr("s3ml.apps.cli.model.connect", lambda _trust, _gateway: deployment)
    monkeypatch.setattr("s3ml.apps.governance.models.seal_identity", made.seal_identity)
    monkeypatch.chdir(folder)
    return made


class TestPack:
    """One command for every kind of model."""

    def test_a_model_is_packed_with_what_it_says_of_itself(self, owner: Owner, litert_file: Path) -> None:
        done = owner.run(litert_file, "--max-batch", 8, "--max-delay-us", 200)

        assert (done.exit_code, done.exception) == (0, None)
        declaration = owner.config()
        assert declaration.batching == Batching(max_size=8, max_delay_us=200)
        assert [one.name for one in declaration.inputs] == ["x"]
        assert "s3ml service sign tumours --policy POLICY --model tumours-1.grant.json" in done.stdout
        assert (owner.folder / "tumours-1.grant.json").is_file()

    def test_scripts_get_one_object(self, owner: Owner, onnx_file: Path) -> None:
        done = owner.run(onnx_file, "--name", "m", "--version", 3, "--json")

        (packed,) = json.loads(done.stdout)["packed"]
        assert (packed["model"], packed["version"]) == ("m", "3")
        assert packed["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert packed["batching"] is None

    def test_settings_beside_it_are_named(self, owner: Owner, onnx_file: Path) -> None:
        onnx_file.with_suffix(".toml").write_text("[batching]\nmax_size = 4")
        done = owner.run(onnx_file)

        assert f"{onnx_file.with_suffix('.toml')}: settings" in done.stderr
        assert owner.config().batching == Batching(max_size=4)

    def test_a_converted_model_comes_with_its_comparison(
        self, owner: Owner, saved: Callable[..., Path], samples: Path
    ) -> None:
        done = owner.run(saved("m.skops"), "--samples", samples)

        assert done.exit_code == 0
        assert [one.name for one in owner.config().outputs] == ["label", "probabilities"]
        assert "compared with ONNX on 60 samples" in done.stderr
        assert "label: 0.00% of the samples are not what predict says" in done.stderr

    def test_what_stands_beside_a_model_is_not_packed(
        self, owner: Owner, onnx_file: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        shutil.copy(onnx_file, folder / "model.onnx")
        (folder / "model.toml").write_text("[batching]\nmax_size = 4")
        (folder / "licence.txt").write_text("free")
        owner.run(folder)

        assert list(owner.files().files) == ["model.onnx", "licence.txt"]
        assert owner.config().batching == Batching(max_size=4)

    def test_samples_are_rows(self, owner: Owner, saved: Callable[..., Path], tmp_path: Path) -> None:
        request = tmp_path / "request.json"
        request.write_text('{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}')
        done = owner.run(saved("m.skops"), "--samples", request)

        assert isinstance(done.exception, ConfigurationError)
        assert "expected .npy or .csv, got a request" in str(done.exception)

    def test_an_untried_model_may_be_packed(self, owner: Owner, onnx_file: Path) -> None:
        owner.run(onnx_file, "--no-try")

        assert owner.config().inputs == ()


class TestRepository:
    """A repository is packed whole, once."""

    @pytest.fixture
    def repository(self, tmp_path: Path, onnx_file: Path) -> Path:
        root = tmp_path / "repository"
        for place in ("tumours/1", "tumours/2", "birds/1"):
            (root / place).mkdir(parents=True)
            shutil.copy(onnx_file, root / place / "model.onnx")
        (root / "tumours" / "config.pbtxt").write_text("max_batch_size: 4 dynamic_batching { }")
        return root

    def test_everything_is_packed_once(self, owner: Owner, repository: Path) -> None:
        first, second = owner.run(repository), owner.run(repository, "--json")

        assert first.exit_code == 0
        assert owner.packed == [("birds", "1"), ("tumours", "1"), ("tumours", "2")]
        assert owner.config("tumours", "2").batching == Batching(max_size=4)
        assert sorted(path.name for path in owner.folder.glob("*.json")) == [
            "birds-1.grant.json",
            "tumours-1.grant.json",
            "tumours-2.grant.json",
        ]
        assert json.loads(second.stdout) == {"packed": []}
        assert second.stderr.count("packed already") == 3

    def test_a_new_version_alone_is_packed(self, owner: Owner, repository: Path) -> None:
        owner.run(repository)
        shutil.copytree(repository / "birds" / "1", repository / "birds" / "2")
        owner.identities.clear()
        owner.run(repository)

        assert owner.packed == [("birds", "2")]

    def test_grants_go_into_a_folder(self, owner: Owner, repository: Path) -> None:
        (owner.folder / "grants").mkdir()
        owner.run(repository, "-o", owner.folder / "grants")

        assert len(list((owner.folder / "grants").iterdir())) == 3

    def test_a_folder_for_grants_that_is_not_there_is_told(self, owner: Owner, repository: Path) -> None:
        done = owner.run(repository, "-o", owner.folder / "absent")

        assert "expected a folder for the grants" in str(done.exception)
        assert owner.packed == []

    @pytest.mark.parametrize("option", [("--name", "m"), ("--version", "2")])
    def test_what_is_said_of_one_model_is_refused(
        self, owner: Owner, repository: Path, option: tuple[str, str]
    ) -> None:
        done = owner.run(repository, *option)

        assert f"{option[0]}: is for one model" in str(done.exception)


class TestConvert:
    """Conversion alone, for whoever profiles first."""

    def test_the_onnx_model_is_written(
        self, saved: Callable[..., Path], samples: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "out.onnx"
        command = ["model", "convert", saved("m.skops"), "--samples", samples, "-o", output]
        done = CliRunner().invoke(cli, list(map(str, command)))

        assert done.exit_code == 0
        assert [one.name for one in onnx.load(output).graph.output] == ["label", "probabilities"]
        assert "compared with ONNX on 60 samples" in done.stderr

    def test_what_is_converted_already_is_told(self, onnx_file: Path, tmp_path: Path) -> None:
        command = ["model", "convert", onnx_file, "-o", tmp_path / "out.onnx"]
        done = CliRunner().invoke(cli, list(map(str, command)))

        assert "expected a scikit-learn model" in str(done.exception)
