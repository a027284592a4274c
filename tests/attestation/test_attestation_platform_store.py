"""What the platform keeps: keys outlive it, images do not."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from s3ml.attestation.simulated import store
from s3ml.attestation.simulated.image import ImageSource, LaunchConfiguration
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.store import ImageStore, PlatformKeys, open_folder, open_keys
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SPEC = Path(__file__).parents[2] / "docs" / "spec" / "simulated-platform.md"
MEASUREMENT = "ab" * 32


class TestKeys:
    """One root and one platform secret per state folder, for good."""

    def test_a_restart_keeps_root_and_sealing_keys(self, tmp_path: Path) -> None:
        first, second = (open_keys(tmp_path, now=NOW) for _ in range(2))
        assert second.pki.root_der == first.pki.root_der
        assert second.sealing_key(MEASUREMENT) == first.sealing_key(MEASUREMENT)

    def test_nobody_else_reads_the_private_ones(self, tmp_path: Path) -> None:
        open_keys(tmp_path, now=NOW)
        assert stat.S_IMODE((tmp_path / "platform.key").stat().st_mode) == 0o600

    def test_the_root_lies_beside_them(self, tmp_path: Path) -> None:
        keys = open_keys(tmp_path, now=NOW)
        assert (tmp_path / "root.pem").read_bytes() == keys.pki.root_pem
        assert (tmp_path / "root.der").read_bytes() == keys.pki.root_der

    def test_two_platforms_share_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        first, second = open_keys(tmp_path, now=NOW), open_keys(tmp_path / "other", now=NOW)
        assert first.pki.root_der != second.pki.root_der
        assert first.sealing_key(MEASUREMENT) != second.sealing_key(MEASUREMENT)

    def test_each_measurement_has_a_sealing_key_of_its_own(self, tmp_path: Path) -> None:
        keys = open_keys(tmp_path, now=NOW)
        assert keys.sealing_key(MEASUREMENT) != keys.sealing_key("ac" * 32)

    def test_the_derivation_is_the_specification_s(self, pki: SimulatedPKI) -> None:
        keys = PlatformKeys(pki=pki, sealing_secret=SecretBytes(bytes(32)))
        assert keys.sealing_key("00" * 32).hex() in SPEC.read_text(encoding="utf-8")

    @pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"pki":"","sealing_secret":"AAAA"}'])
    def test_damaged_ones_are_one_clear_line(self, tmp_path: Path, damage: bytes) -> None:
        open_keys(tmp_path, now=NOW)
        (tmp_path / "platform.key").write_bytes(damage)
        with pytest.raises(ConfigurationError, match=r"got damage; restore it, or remove it") as failed:
            open_keys(tmp_path, now=NOW)
        assert "\n" not in str(failed.value)

    def test_a_damaged_certificate_is_one_clear_line(self, tmp_path: Path) -> None:
        open_keys(tmp_path, now=NOW)
        data = (tmp_path / "platform.key").read_bytes()
        (tmp_path / "platform.key").write_bytes(data.replace(b'"pki":"eyJ', b'"pki":"AAA'))
        with pytest.raises(ConfigurationError, match="got damage"):
            open_keys(tmp_path, now=NOW)

    def test_readable_ones_are_refused(self, tmp_path: Path) -> None:
        open_keys(tmp_path, now=NOW)
        (tmp_path / "platform.key").chmod(0o644)
        with pytest.raises(ConfigurationError, match="expected mode 0600"):
            open_keys(tmp_path, now=NOW)


class TestFolder:
    """The state folder is the platform's alone."""

    def test_is_made_for_its_owner(self, tmp_path: Path) -> None:
        open_folder(tmp_path / "a" / "state")
        assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700

    def test_is_closed_to_others(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        open_folder(tmp_path)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700

    def test_must_be_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ConfigurationError, match="cannot be the platform's folder"):
            open_folder(tmp_path / "file")


class TestImages:
    """An image is built once per run, and never taken over from an earlier one."""

    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A role's image is one file, which a folder in place of the package gives."""

        def installed(_role: Role, package: Path | None = None) -> ImageSource:
            assert package is not None
            files: dict[str, Path | bytes] = {"module": package / "module"}
            return ImageSource(files=files, launch=LaunchConfiguration(argv=("{image}/bin/python3",)))

        monkeypatch.setattr(ImageSource, "installed", installed)
        monkeypatch.setattr(store, "check_distributions", lambda _: None)
        package = tmp_path / "package"
        package.mkdir()
        (package / "module").write_bytes(b"1")
        return package

    def test_an_equal_one_is_used_again(self, tmp_path: Path, package: Path) -> None:
        images = ImageStore(tmp_path / "images")
        first = images.obtain("key-service", package)
        assert images.obtain("key-service", package) is first

    def test_each_role_has_its_own(self, tmp_path: Path, package: Path) -> None:
        images = ImageStore(tmp_path / "images")
        roots = {images.obtain(role, package).root for role in ("key-service", "model-server")}
        assert len(roots) == 2

    def test_a_changed_source_makes_a_new_one(self, tmp_path: Path, package: Path) -> None:
        images = ImageStore(tmp_path / "images")
        first = images.obtain("key-service", package)
        (package / "module").write_bytes(b"22")
        second = images.obtain("key-service", package)
        assert second.measurement != first.measurement
        assert (first.root / "module").read_bytes() == b"1"

    def test_what_an_earlier_run_left_is_removed(self, tmp_path: Path, package: Path) -> None:
        left = ImageStore(tmp_path / "images").obtain("key-service", package).root
        ImageStore(tmp_path / "images")
        assert not left.exists()

    def test_a_failed_build_leaves_nothing(self, tmp_path: Path, package: Path) -> None:
        images = ImageStore(tmp_path / "images")
        (package / "module").unlink()
        with pytest.raises(ConfigurationError, match="No such file"):
            images.obtain("key-service", package)
        assert list((tmp_path / "images").iterdir()) == []

    def test_there_are_not_endlessly_many(
        self, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "_IMAGES_LIMIT", 1)
        images = ImageStore(tmp_path / "images")
        images.obtain("key-service", package)
        with pytest.raises(ConfigurationError, match="expected at most 1; restart"):
            images.obtain("model-server", package)

    def test_the_folder_is_removed_in_the_end(self, tmp_path: Path, package: Path) -> None:
        images = ImageStore(tmp_path / "images")
        images.obtain("key-service", package)
        images.remove()
        assert not (tmp_path / "images").exists()

    def test_a_folder_that_cannot_be_removed_is_one_clear_line(self, tmp_path: Path) -> None:
        (tmp_path / "images").write_bytes(b"no folder")
        with pytest.raises(ConfigurationError, match="cannot be removed"):
            ImageStore(tmp_path / "images")
