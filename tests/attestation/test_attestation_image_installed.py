"""What the running environment puts into an image, and that it runs from there alone."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import s3ml
from s3ml.attestation.simulated import installed
from s3ml.attestation.simulated.bytecode import compile_bytecode
from s3ml.attestation.simulated.image import Digests, Image, ImageSource, build, measure
from s3ml.attestation.simulated.installed import check_distributions, preloaded
from s3ml.attestation.simulated.launch import ROLES, Role
from s3ml.primitives.errors import ConfigurationError

PACKAGE = Path(s3ml.__file__).parent
DIGESTS = Digests()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    """The real one, with a snapshot of the package, which may be edited while the tests run."""
    package = tmp_path_factory.mktemp("package") / "s3ml"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    return ImageSource.installed("model-server", package)


@pytest.fixture(scope="module")
def image(source: ImageSource, tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = build(source, tmp_path_factory.mktemp("images") / "model-server", digests=DIGESTS)
    compile_bytecode(image)
    return image


def run(image: Image, code: str) -> str:
    done = subprocess.run(
        [
            image.argv[0],
            "-I",
            "-S",
            "-B",
            "-c",
            f"import sys; sys.path.append({str(image.root / 'site')!r}); {code}",
        ],
        env=dict(image.environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout


class TestSelection:
    """An image holds what an enclave process can use."""

    @pytest.mark.parametrize("role", list(ROLES))
    def test_has_interpreter_library_distributions_and_package(self, role: Role) -> None:
        files = ImageSource.installed(role).files
        for ending in (
            "/os.py",
            "site/msgspec/__init__.py",
            "site/s3ml/__init__.py",
            "bin/python3",
            "launch.py",
        ):
            assert any(path.endswith(ending) for path in files), ending
        assert any("lib-dynload/" in path for path in files)
        assert any(path.startswith("site/cryptography-") and path.endswith("METADATA") for path in files)

    @pytest.mark.parametrize(
        "part",
        [
            "__pycache__/",
            "/tests/",
            ".pyi",
            ".pyc",
            "RECORD",
            "site-packages",
            "idlelib/",
            "tkinter",
            "turtle",
            "ensurepip",
            "sitecustomize",
            "onnxruntime/transformers/",
            "numpy/f2py/",
            "s3ml/apps/cli/",
            "s3ml/apps/processes/platform.py",
            "s3ml/client/",
            "s3ml/attestation/simulated/pki.py",
            "s3ml/attestation/simulated/platform.py",
        ],
    )
    def test_has_nothing_that_it_cannot_use(self, source: ImageSource, part: str) -> None:
        assert [path for path in source.files if part in path] == []

    def test_has_the_enclave_s_side_of_the_platform(self, source: ImageSource) -> None:
        prefix = "site/s3ml/attestation/simulated/"
        names = {path.removeprefix(prefix) for path in source.files if path.startswith(prefix)}
        assert names == {"__init__.py", "attester.py", "launch.py", "protocol.py"}

    def test_has_no_runtime_for_models_in_the_key_service(self) -> None:
        files = ImageSource.installed("key-service").files
        assert not any(path.startswith(("site/onnxruntime/", "site/numpy/")) for path in files)

    def test_follows_the_requirements_of_its_roots(self, source: ImageSource) -> None:
        assert any(path.startswith("site/google/protobuf/") for path in source.files)

    def test_says_the_version_and_nothing_else_of_the_package(self, source: ImageSource) -> None:
        about = source.files[f"site/s3ml-{s3ml.__version__}.dist-info/METADATA"]
        assert about == f"Metadata-Version: 2.1\nName: s3ml\nVersion: {s3ml.__version__}\n".encode()

    def test_preloads_the_interpreter_s_library_where_it_has_one(self) -> None:
        assert preloaded(["bin/python3", "lib/libpython3.11.so.1.0"]) == "lib/libpython3.11.so.1.0"
        assert preloaded(["bin/python3", "site/libpython.py"]) is None

    @pytest.mark.parametrize("has_library", [True, False])
    def test_tells_a_shared_interpreter_by_what_the_kernel_mapped(
        self, monkeypatch: pytest.MonkeyPatch, *, has_library: bool
    ) -> None:
        files: dict[str, Path | bytes] = {"bin/python3": b""}
        if has_library:
            files["lib/libpython3.so.1"] = b""
        monkeypatch.setattr("s3ml.attestation.simulated.image.installed_files", lambda *_: files)
        launch = ImageSource.installed("key-service").launch
        expected = (("LD_PRELOAD", "{image}/lib/libpython3.so.1"),) if has_library else ()
        assert launch.environment == expected

    def test_finds_the_mapped_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        line = f"7f-8f r--p 0 fe:00 1    /opt/python/lib/libpython{version}.so.1.0\n"
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"00-01 r--p 0 00:00 0\n{line}")
        files = installed._interpreter()
        assert files[f"lib/libpython{version}.so.1.0"] == Path(f"/opt/python/lib/libpython{version}.so.1.0")


class TestReplacedPackage:
    """A folder in place of the package is measured as what it is."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        package = tmp_path / "s3ml"
        (package / "apps/cli").mkdir(parents=True)
        for name in ("__init__.py", "apps/__init__.py", "apps/cli/__init__.py"):
            (package / name).write_bytes(b"")
        return package

    def test_replaces_all_of_it(self, package: Path) -> None:
        files = ImageSource.installed("key-service", package).files
        names = {path for path in files if path.startswith("site/s3ml/")}
        assert names == {"site/s3ml/__init__.py", "site/s3ml/apps/__init__.py"}
        assert files["site/s3ml/__init__.py"] == package / "__init__.py"

    def test_equals_the_installed_one_when_its_bytes_do(self) -> None:
        assert ImageSource.installed("key-service", PACKAGE) == ImageSource.installed("key-service")

    def test_must_be_a_package(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"expected the folder of the package s3ml"):
            ImageSource.installed("key-service", tmp_path)


class TestBadEnvironments:
    """What cannot be measured is said before anything is copied."""

    def test_an_unknown_role(self) -> None:
        with pytest.raises(ConfigurationError, match="expected one of key-service, model-server, got 'root'"):
            ImageSource.installed("root")  # type: ignore[arg-type]

    def test_a_missing_distribution(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> metadata.Distribution:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "distribution", missing)
        with pytest.raises(ConfigurationError, match="not installed; install s3ml"):
            ImageSource.installed("key-service")

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"METADATA": "Name: odd\nRequires-Dist: =no=\n"}, "odd: its requirements cannot be read"),
            (
                {"METADATA": "Name: odd\n"},
                "distribution odd: expected one that a wheel installed, got no RECORD",
            ),
        ],
    )
    def test_an_unreadable_distribution(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], message: str
    ) -> None:
        folder = tmp_path / "odd-1.dist-info"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        monkeypatch.setattr(metadata, "distribution", lambda _: metadata.PathDistribution(folder))
        monkeypatch.setattr(installed, "canonicalize_name", lambda _: "odd")
        with pytest.raises(ConfigurationError, match=message):
            ImageSource.installed("key-service")


class TestOverwrittenDistributions:
    """An image whose distributions were damaged is not launched; the remedy is named."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Every distribution is one with the module ``odd``."""
        about = tmp_path / "odd-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Name: odd\n")
        (about / "RECORD").write_text("odd.py,sha256=x,3\nodd_data,,\n../../bin/odd,sha256=x,9\n")
        (tmp_path / "odd.py").write_bytes(b"1\n#")
        monkeypatch.setattr(metadata, "distribution", lambda _: metadata.PathDistribution(about))
        return tmp_path

    def test_a_whole_one_is_accepted(self, folder: Path) -> None:
        check_distributions("key-service")

    def test_a_file_of_another_size_is_refused(self, folder: Path) -> None:
        (folder / "odd.py").write_bytes(b"overwritten")
        with pytest.raises(
            ConfigurationError, match=r"odd\.py: expected the 3 bytes .*, got 11; .*reinstall odd"
        ):
            check_distributions("key-service")

    def test_a_missing_file_is_refused(self, folder: Path) -> None:
        (folder / "odd.py").unlink()
        with pytest.raises(ConfigurationError, match=r"odd\.py: expected the 3 bytes .*, got none"):
            check_distributions("key-service")


@pytest.mark.integration
class TestTheRealImage:
    """The model server's image: measured, copied, and enough to run."""

    def test_measures_what_was_built(self, image: Image, source: ImageSource) -> None:
        assert measure(source, digests=DIGESTS) == image.measurement

    def kinds(self, source: ImageSource) -> Iterator[str]:
        yield from ("bin/python3", "launch.py", "site/s3ml/__init__.py")
        for part in (
            "/os.py",
            "lib-dynload/",
            "site/onnxruntime/capi/",
            "site/numpy/",
            "/METADATA",
            "numpy.libs/",
        ):
            yield next(path for path in sorted(source.files) if part in path)
        yield from [path for path in source.files if path.startswith("lib/libpython")]

    def test_a_changed_byte_of_any_kind_of_file_changes_the_measurement(
        self, image: Image, source: ImageSource
    ) -> None:
        seen = {image.measurement}
        for path in self.kinds(source):
            data = bytearray((image.root / path).read_bytes())
            data[len(data) // 2] ^= 1
            changed = ImageSource(files={**source.files, path: bytes(data)}, launch=source.launch)
            seen.add(measure(changed, digests=DIGESTS))
        assert len(seen) == 1 + len(list(self.kinds(source)))

    def test_imports_what_the_model_server_needs_from_itself_alone(self, image: Image) -> None:
        names = (
            "cryptography",
            "dcap_qvl",
            "fsspec",
            "httptools",
            "msgspec",
            "numpy",
            "onnxruntime",
            "pyrage",
            "uvicorn",
        )
        loaded = run(
            image,
            "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; "
            f"import {', '.join(names)}, uvloop, ssl, sqlite3; "
            "files = [getattr(module, '__file__', None) for module in sys.modules.values()]; "
            "print(*filter(None, files), sep='\\n')",
        ).splitlines()
        assert len(loaded) > 100
        assert [path for path in loaded if not path.startswith(f"{image.root}/")] == []

    def test_maps_no_foreign_interpreter(self, image: Image) -> None:
        mapped = run(image, "print(open('/proc/self/maps').read())")
        foreign = [line for line in mapped.splitlines() if "python" in line and str(image.root) not in line]
        assert foreign == []


class TestBytecode:
    """The platform compiles what it copied; an enclave process starts at once."""

    def test_is_made_from_the_copy_and_checked_against_nothing_else(self, image: Image) -> None:
        compiled = [
            Path(importlib.util.cache_from_source(str(image.root / p)))
            for p in image.files
            if "s3ml/" in p and p.endswith(".py")
        ]
        assert compiled
        for path in compiled:
            assert int.from_bytes(path.read_bytes()[4:8], "little") == 0b01, "unchecked hash, PEP 552"

    def test_nobody_may_write_it(self, image: Image) -> None:
        modes = {path.stat().st_mode & 0o777 for path in image.root.rglob("*.pyc")}
        assert modes == {0o444}

    def test_is_shared_where_the_source_is_equal(
        self, image: Image, source: ImageSource, tmp_path: Path
    ) -> None:
        files = {
            **source.files,
            "site/s3ml/__init__.py": b"__version__ = 'evil'\n",
            "site/bad.py": b"not python",
        }
        other = build(
            ImageSource(files=files, launch=source.launch),
            image.root.parent / "other",
            reuse=[image],
            digests=DIGESTS,
        )
        compile_bytecode(other, reuse=[image])
        cached = "site/msgspec/__pycache__"
        for path in (image.root / cached).iterdir():
            assert (other.root / cached / path.name).samefile(path)
        own = Path(importlib.util.cache_from_source("site/s3ml/__init__.py"))
        assert not (other.root / own).samefile(image.root / own)
        assert b"evil" in (other.root / own).read_bytes()

    def test_needs_an_interpreter_that_runs(self, tmp_path: Path, source: ImageSource) -> None:
        files: dict[str, Path | bytes] = {"bin/python3": b"#!/bin/false\n", "site/a.py": b""}
        broken = build(ImageSource(files=files, launch=source.launch), tmp_path / "broken")
        with pytest.raises(ConfigurationError, match="its interpreter compiled nothing: status 1"):
            compile_bytecode(broken)

    def test_says_when_the_interpreter_is_none(self, tmp_path: Path, source: ImageSource) -> None:
        none = build(ImageSource(files={"site/a.py": b""}, launch=source.launch), tmp_path / "none")
        with pytest.raises(ConfigurationError, match="bytecode: No such file"):
            compile_bytecode(none)

    def test_is_compiled_anew_where_links_do_not_work(
        self, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: ImageSource
    ) -> None:
        def refuse(_: Path, target: Path) -> None:
            raise PermissionError(1, "no links here", str(target))

        small = {
            path: origin
            for path, origin in source.files.items()
            if not path.startswith("site/") or "h11/" in path
        }
        other = build(
            ImageSource(files=small, launch=source.launch),
            image.root.parent / "small",
            reuse=[image],
            digests=DIGESTS,
        )
        only = Image(
            root=other.root,
            measurement=other.measurement,
            argv=other.argv,
            environment=other.environment,
            files={path: entry for path, entry in other.files.items() if "h11/" in path},
        )
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        compile_bytecode(only, reuse=[image])
        name = Path(importlib.util.cache_from_source("site/h11/__init__.py"))
        assert not (other.root / name).samefile(image.root / name)
