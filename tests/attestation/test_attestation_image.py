"""Images: what is measured is what was copied, and every byte of it counts."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.attestation.simulated.image import (
    Digests,
    Image,
    ImageSource,
    LaunchConfiguration,
    Measured,
    build,
    measure,
    measurement_of,
)
from s3ml.primitives.encoding import sha256, tagged_sha256
from s3ml.primitives.errors import ConfigurationError

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "simulated-platform.md"
LAUNCH = LaunchConfiguration(
    argv=("{image}/bin/python3", "{image}/launch.py"), environment=(("LD_PRELOAD", "{image}/lib/p.so"),)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "python").write_bytes(b"\x7fELF interpreter")
    (folder / "module.py").write_bytes(b"VALUE = 1\n")
    (folder / "empty").write_bytes(b"")
    return folder


def source_of(folder: Path, **changes: Path | bytes) -> ImageSource:
    files: dict[str, Path | bytes] = {
        "bin/python3": folder / "python",
        "launch.py": b"import module\n",
        "site/empty": folder / "empty",
        "site/module.py": folder / "module.py",
    }
    return ImageSource(files={**files, **changes}, launch=LAUNCH)


def measured(data: bytes) -> Measured:
    return Measured(sha256=sha256(data).hex(), size_bytes=len(data))


class TestOneMeasurement:
    """Reading and copying arrive at the same measurement, which the specification defines."""

    def test_what_is_built_measures_what_was_read(self, folder: Path, tmp_path: Path) -> None:
        source = source_of(folder)
        assert build(source, tmp_path / "image").measurement == measure(source)

    def test_the_specification_names_every_byte(self) -> None:
        files = {"site/b.py": measured(b"b"), "launch.py": measured(b""), "site/B.py": measured(b"capital")}
        manifest = (
            f"{sha256(b'').hex()}  0  launch.py\n"
            f"{sha256(b'capital').hex()}  7  site/B.py\n"
            f"{sha256(b'b').hex()}  1  site/b.py\n"
        ).encode()
        launch = b"argv {image}/bin/python3\nargv {image}/launch.py\nenv LD_PRELOAD={image}/lib/p.so\n"
        expected = tagged_sha256("S3ML simulated measurement v1", manifest, launch).hex()
        assert measurement_of(files, LAUNCH) == expected
        assert expected in SPEC.read_text(encoding="utf-8")

    def test_the_order_of_files_does_not_count(self, folder: Path) -> None:
        source = source_of(folder)
        backwards = ImageSource(files=dict(reversed(list(source.files.items()))), launch=LAUNCH)
        assert measure(backwards) == measure(source)

    def test_measuring_copies_nothing(self, folder: Path, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        measure(source_of(folder))
        assert sorted(tmp_path.rglob("*")) == before

    def test_the_copy_counts_and_not_what_the_source_was(self, folder: Path, tmp_path: Path) -> None:
        source = source_of(folder)
        before = measure(source)
        (folder / "module.py").write_bytes(b"VALUE = 2\n")
        image = build(source, tmp_path / "image")
        assert image.measurement != before
        assert image.files["site/module.py"] == measured((image.root / "site/module.py").read_bytes())

    @given(
        st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.binary(max_size=4), min_size=1),
        st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.binary(max_size=4), min_size=1),
    )
    def test_two_contents_share_a_measurement_only_when_equal(
        self, one: dict[str, bytes], other: dict[str, bytes]
    ) -> None:
        left, right = (measure(ImageSource(files=files, launch=LAUNCH)) for files in (one, other))
        assert (left == right) == (one == other)


class TestEveryByteCounts:
    """A change of anything that runs changes the measurement."""

    @pytest.mark.parametrize("name", ["python", "module.py", "empty"])
    def test_of_a_file(self, folder: Path, name: str) -> None:
        before = measure(source_of(folder))
        path = folder / name
        path.write_bytes(path.read_bytes() + b"#")
        assert measure(source_of(folder)) != before

    def test_of_the_script(self, folder: Path) -> None:
        assert measure(source_of(folder, **{"launch.py": b"import evil\n"})) != measure(source_of(folder))

    def test_of_a_path(self, folder: Path) -> None:
        files = dict(source_of(folder).files)
        files["site/other.py"] = files.pop("site/module.py")
        assert measure(ImageSource(files=files, launch=LAUNCH)) != measure(source_of(folder))

    @pytest.mark.parametrize(
        "launch",
        [
            LaunchConfiguration(argv=(*LAUNCH.argv, "-v"), environment=LAUNCH.environment),
            LaunchConfiguration(argv=LAUNCH.argv),
            LaunchConfiguration(argv=LAUNCH.argv, environment=(("LD_PRELOAD", "/tmp/evil.so"),)),  # noqa: S108
        ],
    )
    def test_of_the_launch_configuration(self, folder: Path, launch: LaunchConfiguration) -> None:
        files = source_of(folder).files
        assert measure(ImageSource(files=files, launch=launch)) != measure(source_of(folder))


class TestTheCopy:
    """An image is a read-only folder that is started as it was measured."""

    @pytest.fixture
    def image(self, folder: Path, tmp_path: Path) -> Image:
        return build(source_of(folder), tmp_path / "image")

    def test_nobody_may_write_a_file(self, image: Image) -> None:
        modes = {path: stat.S_IMODE((image.root / path).stat().st_mode) for path in image.files}
        assert modes.pop("bin/python3") == 0o555
        assert set(modes.values()) == {0o444}

    def test_holds_the_source_s_bytes(self, image: Image) -> None:
        assert (image.root / "launch.py").read_bytes() == b"import module\n"
        assert (image.root / "site/module.py").read_bytes() == b"VALUE = 1\n"

    def test_is_started_from_its_own_folder(self, image: Image) -> None:
        assert image.argv == (f"{image.root}/bin/python3", f"{image.root}/launch.py")
        assert image.environment == (("LD_PRELOAD", f"{image.root}/lib/p.so"),)

    def test_is_never_built_over_another(self, image: Image, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot be built: .*exists"):
            build(source_of(folder), image.root)


class TestSharing:
    """A later image shares what did not change, and nothing else."""

    def test_equal_files_are_shared(self, folder: Path, tmp_path: Path) -> None:
        first = build(source_of(folder), tmp_path / "first")
        second = build(source_of(folder), tmp_path / "second", reuse=[first])
        assert second.measurement == first.measurement
        for path in second.files:
            assert (second.root / path).samefile(first.root / path)

    def test_a_changed_file_is_copied(self, folder: Path, tmp_path: Path) -> None:
        first = build(source_of(folder), tmp_path / "first")
        (folder / "module.py").write_bytes(b"VALUE = 2\n")
        second = build(source_of(folder), tmp_path / "second", reuse=[first])
        assert second.measurement == measure(source_of(folder)) != first.measurement
        assert not (second.root / "site/module.py").samefile(first.root / "site/module.py")
        assert (first.root / "site/module.py").read_bytes() == b"VALUE = 1\n"

    def test_a_file_system_without_links_gets_copies(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Path, target: Path) -> None:
            raise PermissionError(1, "no links here", str(target))

        first = build(source_of(folder), tmp_path / "first")
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        second = build(source_of(folder), tmp_path / "second", reuse=[first])
        assert second.measurement == first.measurement
        assert not (second.root / "launch.py").samefile(first.root / "launch.py")


class TestDigests:
    """A file is read again when its status says that it changed."""

    def test_an_unchanged_file_is_read_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        digests, opened = Digests(), list[object]()
        real = os.open

        def count(path: Path, flags: int, mode: int = 0o777) -> int:
            opened.append(path)
            return real(path, flags, mode)

        monkeypatch.setattr(os, "open", count)
        for _ in range(2):
            assert digests.of(folder / "module.py") == measured(b"VALUE = 1\n")
        assert opened == [folder / "module.py"]

    def test_a_replaced_file_is_read_again(self, folder: Path) -> None:
        digests = Digests()
        digests.of(folder / "module.py")
        (folder / "new").write_bytes(b"VALUE = 2\n")
        (folder / "new").replace(folder / "module.py")
        assert digests.of(folder / "module.py") == measured(b"VALUE = 2\n")


class TestBadSources:
    """A source that cannot be copied is one clear line."""

    @pytest.mark.parametrize(
        "path", ["", "/etc/passwd", "../up", "a//b", "a/./b", "a\nb", "a\x00b", "\udc80"]
    )
    def test_of_a_path_that_is_no_relative_one(self, path: str) -> None:
        with pytest.raises(ConfigurationError, match="expected a relative path"):
            ImageSource(files={path: b""}, launch=LAUNCH)

    def test_of_a_missing_file(self, folder: Path, tmp_path: Path) -> None:
        (folder / "module.py").unlink()
        with pytest.raises(ConfigurationError, match=r"module\.py: cannot be read: No such file"):
            measure(source_of(folder))
        with pytest.raises(ConfigurationError, match=r"cannot be built: .*No such file"):
            build(source_of(folder), tmp_path / "image")

    def test_of_a_pipe_that_nobody_writes_to(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        with pytest.raises(ConfigurationError, match="pipe: cannot be read: expected a regular file"):
            measure(source_of(folder, **{"site/pipe": folder / "pipe"}))
