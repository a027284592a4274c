import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from s3ml.primitives.clock import RatchetClock, SystemClock
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import check_name, check_version
from s3ml.primitives.secret import SecretBytes

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FixedClock:
    def __init__(self, now: datetime) -> None:
        self.present = now

    def now(self) -> datetime:
        return self.present

    def monotonic_s(self) -> float:
        return 5.0


class TestRatchetClock:
    """Time never precedes the newest signed instant."""

    def test_it_follows_the_host_forwards(self) -> None:
        assert RatchetClock(FixedClock(NOON)).now() == NOON

    def test_it_does_not_follow_the_host_back(self) -> None:
        clock = RatchetClock(FixedClock(NOON - timedelta(days=1)))
        clock.observe(NOON)
        assert clock.now() == NOON

    def test_an_older_instant_lowers_nothing(self) -> None:
        clock = RatchetClock(FixedClock(NOON - timedelta(days=1)))
        clock.observe(NOON)
        clock.observe(NOON - timedelta(hours=1))
        assert clock.now() == NOON

    def test_monotonic_time_is_the_host_s(self) -> None:
        assert RatchetClock(FixedClock(NOON)).monotonic_s() == 5.0

    def test_the_system_clock_is_aware(self) -> None:
        clock = SystemClock()
        assert clock.now().tzinfo is UTC
        assert clock.monotonic_s() <= clock.monotonic_s()


class TestSecretBytes:
    """A secret leaves only through `reveal`."""

    def test_repr_and_str_say_nothing(self) -> None:
        secret = SecretBytes(b"topsecret")
        assert "topsecret" not in f"{secret} {secret!r}"
        assert "9 bytes" in repr(secret)

    def test_it_compares_by_value(self) -> None:
        assert SecretBytes(b"a") == SecretBytes(b"a")
        assert SecretBytes(b"a") != SecretBytes(b"b")
        assert SecretBytes(b"a") != b"a"

    def test_it_is_neither_hashed_nor_pickled(self) -> None:
        with pytest.raises(TypeError):
            hash(SecretBytes(b"a"))
        with pytest.raises(TypeError):
            pickle.dumps(SecretBytes(b"a"))

    def test_wiping_forgets(self) -> None:
        secret = SecretBytes.random(16)
        assert len(secret) == 16
        secret.wipe()
        assert secret.reveal() == b""


class TestNames:
    """Names are RFC 1123 labels, versions positive numbers: exactly."""

    @pytest.mark.parametrize("name", ["a", "tumours", "a-1", "x" * 63])
    def test_labels_pass(self, name: str) -> None:
        assert check_name(name, what="service") == name

    @pytest.mark.parametrize(
        "name", ["", "-a", "a-", "A", "a.b", "..", "a/b", "a\n", "ａ", "x" * 64, "tumоurs"]
    )
    def test_others_reject(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="service: expected 1 to 63"):
            check_name(name, what="service")

    def test_versions_pass(self) -> None:
        assert check_version("12", what="version") == "12"

    @pytest.mark.parametrize("version", ["", "0", "01", "-1", "1.0", "١", "1\n", "1234567890"])
    def test_other_versions_reject(self, version: str) -> None:
        with pytest.raises(ConfigurationError, match="positive decimal"):
            check_version(version, what="version")


class TestFiles:
    """A file is whole or absent."""

    def test_it_is_written_with_its_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        write_atomically(path, b"x", mode=0o600)
        assert path.read_bytes() == b"x"
        assert path.stat().st_mode & 0o777 == 0o600

    def test_nothing_else_is_left(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "f", b"x")
        assert [p.name for p in tmp_path.iterdir()] == ["f"]

    def test_a_missing_folder_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
            write_atomically(tmp_path / "absent" / "f", b"x")

    def test_a_failed_write_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "inside").touch()
        with pytest.raises(ConfigurationError):
            write_atomically(tmp_path / "f", b"x")
        assert [p.name for p in tmp_path.iterdir()] == ["f"]

    def test_reading_is_limited(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"12345")
        assert read_limited(tmp_path / "f", limit_bytes=5, what="thing") == b"12345"
        with pytest.raises(ConfigurationError, match="at most 4 bytes"):
            read_limited(tmp_path / "f", limit_bytes=4, what="thing")

    def test_a_missing_file_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"thing .*: No such file"):
            read_limited(tmp_path / "absent", limit_bytes=5, what="thing")


class TestErrors:
    """Errors carry what their receiver needs."""

    def test_unavailable_says_when_to_retry(self) -> None:
        assert UnavailableError("busy", retry_after_s=2.5).retry_after_s == 2.5
