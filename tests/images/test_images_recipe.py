"""What is written is what is measured, and starts without the simulation."""

import hashlib
import subprocess
import tomllib
from pathlib import Path

import pytest

from s3ml.apps.images import recipe
from s3ml.apps.images.contents import enclave_files, launch_script
from s3ml.apps.images.elf import needed_libraries
from s3ml.apps.images.lint import lint_manifest
from s3ml.apps.images.manifest import EnclaveShape
from s3ml.apps.images.plans import ARGUMENTS, CODE, SIMULATION
from s3ml.apps.images.recipe import WrittenImage, write_image
from s3ml.attestation.simulated.installed import installed_files
from s3ml.attestation.simulated.launch import ROLES, TRACING, Role
from s3ml.primitives.errors import ConfigurationError
from tests.images.images_world import RUNTIME_FILES, SHAPE, TEMPLATE

ENCLAVES: list[Role] = ["key-service", "model-server"]


@pytest.fixture(scope="module")
def written(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Role, WrittenImage]:
    """The images of the installed code."""
    folder = tmp_path_factory.mktemp("images")
    return {
        role: write_image(role, folder / role, template=TEMPLATE, shape=SHAPE, runtime=runtime)
        for role in ENCLAVES
    }


def start(image: WrittenImage, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the image's interpreter natively, as Gramine's manifest says but for the C library."""
    code = image.manifest.parent / "code"
    manifest = tomllib.loads(image.manifest.read_text())
    library = manifest["loader"]["env"].get("LD_PRELOAD", "").replace(CODE, str(code))
    argv = [argument.replace(CODE, str(code)) for argument in manifest["loader"]["argv"]]
    assert argv[-1] == str(code / "launch.py")
    fixed = {"LD_LIBRARY_PATH": str(code / "system"), "LD_PRELOAD": library, "ORT_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [*argv[:-1], *([argv[-1]] if not script else ["-c", script])],
        env={**fixed, **environment},
        cwd=code,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("role", ENCLAVES)
class TestContents:
    """The simulated platform's files, without the simulation, with what lies under them."""

    def test_the_files_are_those_of_the_simulated_platform(self, role: Role, runtime: Path) -> None:
        files = {
            path: origin
            for path, origin in enclave_files(role, runtime=runtime).items()
            if not path.startswith(("runtime/", "system/"))
        }
        simulated = {
            path: origin
            for path, origin in installed_files(role).items()
            if not path.startswith("site/s3ml/attestation/simulated/")
        }
        assert files.pop("launch.py") == launch_script(role)
        assert files == {path: origin for path, origin in simulated.items() if path != "launch.py"}

    def test_nothing_of_the_simulation_is_in_it(self, role: Role, written: dict[Role, WrittenImage]) -> None:
        assert not (written[role].manifest.parent / "code" / SIMULATION).exists()
        assert SIMULATION not in written[role].manifest.read_text()

    def test_gramine_s_c_library_is_in_it_and_no_other(self, role: Role, runtime: Path) -> None:
        files = enclave_files(role, runtime=runtime)
        assert {path for path in files if path.startswith("runtime/")} == {
            f"runtime/{n}" for n in RUNTIME_FILES
        }
        assert not {f"system/{name}" for name in RUNTIME_FILES} & files.keys()


class TestLibraries:
    """Every library that something needs is found, or its absence is said."""

    def test_what_is_nowhere_is_named_with_who_needs_it(self, runtime: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"library lib\S+: \S+ needs it"):
            enclave_files("key-service", runtime=runtime, system=[tmp_path])

    def test_a_runtime_without_a_loader_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "libc.so.6").touch()
        with pytest.raises(ConfigurationError, match="install gramine"):
            enclave_files("key-service", runtime=tmp_path)

    @pytest.mark.parametrize("role", ENCLAVES)
    def test_whatever_a_file_needs_is_in_the_image(self, role: Role, runtime: Path) -> None:
        files = enclave_files(role, runtime=runtime)
        names = {path.rpartition("/")[2] for path in files}
        needed = {
            name for origin in files.values() if isinstance(origin, Path) for name in needed_libraries(origin)
        }
        assert "libc.so.6" in needed
        assert needed <= names


@pytest.mark.parametrize("role", ENCLAVES)
class TestWriting:
    """The manifest tells the truth about the folder."""

    def test_every_file_is_trusted_under_the_digest_of_its_bytes(
        self, role: Role, written: dict[Role, WrittenImage]
    ) -> None:
        code = written[role].manifest.parent / "code"
        trusted = tomllib.loads(written[role].manifest.read_text())["sgx"]["trusted_files"]
        found = {
            f"file:{CODE}/{path.relative_to(code)}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in code.rglob("*")
            if path.is_file()
        }
        assert {file["uri"]: file["sha256"] for file in trusted} == found
        assert written[role].file_count == len(found)

    def test_it_keeps_every_rule(self, role: Role, written: dict[Role, WrittenImage]) -> None:
        assert lint_manifest(written[role].manifest.read_bytes()) == []

    def test_it_has_few_enough_files_to_start_quickly(
        self, role: Role, written: dict[Role, WrittenImage]
    ) -> None:
        assert written[role].file_count < 2000

    def test_it_starts_and_reads_its_settings(self, role: Role, written: dict[Role, WrittenImage]) -> None:
        done = start(written[role], "")
        assert done.returncode == 2
        assert "settings: missing: " in done.stderr
        assert done.stderr.count("\n") == 1

    def test_the_simulation_cannot_be_imported(self, role: Role, written: dict[Role, WrittenImage]) -> None:
        done = start(
            written[role],
            "import sys\nsys.path.append('site')\n"
            f"import s3ml.apps.processes.{ROLES[role].module}\n"
            "print(sorted(m for m in sys.modules if 'simulated' in m))\n"
            "import s3ml.attestation.simulated",
        )
        assert done.stdout == "[]\n"
        assert "ModuleNotFoundError: No module named 's3ml.attestation.simulated'" in done.stderr


class TestTraces:
    """An image traces only where it was made for it, and is another one then."""

    def test_the_libraries_are_in_it_and_can_be_imported(self, runtime: Path, tmp_path: Path) -> None:
        image = write_image(
            "model-server",
            tmp_path / "image",
            template=TEMPLATE,
            shape=SHAPE,
            runtime=runtime,
            additions=TRACING,
        )
        done = start(
            image,
            "import sys\nsys.path.append('site')\n"
            "from s3ml.modelserver.spans import SpanTrace, otlp_exporter\n"
            "from s3ml.primitives.clock import SystemClock\n"
            "exporter = otlp_exporter('http://127.0.0.1:9')\n"
            "SpanTrace(exporter, service='a', replica='b', clock=SystemClock()).close()\n"
            "print('traced')\n",
        )
        assert (done.stdout, done.stderr) == ("traced\n", "")

    def test_otherwise_a_collector_is_refused_in_one_line(self, written: dict[Role, WrittenImage]) -> None:
        done = start(
            written["model-server"],
            "import sys\nsys.path.append('site')\n"
            "try:\n    import s3ml.modelserver.spans\n"
            "except ImportError:\n    print('none')\n",
        )
        assert done.stdout == "none\n"


class TestReproduction:
    """The same code makes the same manifest; other code another."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "__init__.py").write_text("changed = 1\n")
        return folder

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def few(
            role: Role, *, runtime: Path, package: Path | None, additions: tuple[str, ...]
        ) -> dict[str, Path | bytes]:
            assert package is not None
            code = {f"site/s3ml/{path.name}": path for path in package.iterdir()}
            return {"bin/python3": b"python", "launch.py": launch_script(role), **code}

        monkeypatch.setattr(recipe, "enclave_files", few)

    def write(self, folder: Path, package: Path, template: Path = TEMPLATE) -> WrittenImage:
        shape = EnclaveShape(enclave_size="1G", threads=8)
        return write_image(
            "key-service", folder, template=template, shape=shape, runtime=folder, package=package
        )

    def test_twice_the_same(self, tmp_path: Path, package: Path) -> None:
        first = self.write(tmp_path / "deep" / "first", package)
        second = self.write(tmp_path / "second", package)
        assert first.sha256 == second.sha256 == hashlib.sha256(first.manifest.read_bytes()).hexdigest()
        assert first.manifest.read_bytes() == second.manifest.read_bytes()

    def test_other_code_makes_another(self, tmp_path: Path, package: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "__init__.py").write_text("changed = 2\n")
        assert self.write(tmp_path / "a", package).sha256 != self.write(tmp_path / "b", other).sha256

    def test_a_folder_that_exists_is_left_alone(self, tmp_path: Path, package: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected a new folder"):
            self.write(package, package)
        assert [path.name for path in package.iterdir()] == ["__init__.py"]

    def test_a_template_that_breaks_a_rule_writes_no_manifest(self, tmp_path: Path, package: Path) -> None:
        template = tmp_path / "template"
        template.write_text(TEMPLATE.read_text().replace("debug = false", "debug = true"))
        with pytest.raises(ConfigurationError, match=r"breaks 1 rules, first production: sgx\.debug"):
            self.write(tmp_path / "image", package, template)
        assert not (tmp_path / "image/enclave.manifest").exists()

    def test_a_missing_template_is_refused(self, tmp_path: Path, package: Path) -> None:
        with pytest.raises(ConfigurationError, match="template"):
            self.write(tmp_path / "image", package, tmp_path / "none")


def test_the_program_is_in_the_image() -> None:
    """The arguments name files by the paths that an image has."""
    files = installed_files("key-service")
    assert {ARGUMENTS[0].removeprefix(f"{CODE}/"), ARGUMENTS[-1].removeprefix(f"{CODE}/")} <= files.keys()
