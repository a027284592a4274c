"""A client remembers the newest log that it verified."""

from pathlib import Path

import pytest

from s3ml.client.log_state import LogState
from s3ml.primitives.errors import ConfigurationError
from tests.client.world import DEPLOYMENT

OLD, NEW = (5, b"\x05" * 32), (9, b"\x09" * 32)


class TestMemory:
    """Only ever a log that extends the one before."""

    def test_nothing_is_known_at_first(self) -> None:
        assert LogState(DEPLOYMENT).known is None

    def test_a_log_that_extends_it_takes_its_place(self) -> None:
        state = LogState(DEPLOYMENT)
        assert state.remember(*OLD, since=None)
        assert state.remember(*NEW, since=OLD)
        assert state.known == NEW

    def test_the_same_log_is_no_news(self) -> None:
        state = LogState(DEPLOYMENT)
        state.remember(*OLD, since=None)
        assert state.remember(*OLD, since=None)

    @pytest.mark.parametrize("other", [(4, b"\x04" * 32), (5, b"\x06" * 32), NEW])
    def test_two_logs_that_nothing_joins_are_not_both_kept(self, other: tuple[int, bytes]) -> None:
        """Both extend what was known when they were asked for, and may still be a fork."""
        state = LogState(DEPLOYMENT)
        state.remember(*OLD, since=None)
        assert not state.remember(*other, since=None)
        assert state.known == OLD


class TestFile:
    """A file outlives the process; a wrong one is an error and no fresh start."""

    def test_it_outlives_the_client(self, tmp_path: Path) -> None:
        path = tmp_path / "log.json"
        LogState(DEPLOYMENT, path).remember(*OLD, since=None)
        LogState(DEPLOYMENT, path).remember(*NEW, since=OLD)
        assert LogState(DEPLOYMENT, path).known == NEW

    def test_another_deployments_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "log.json"
        LogState("aa" * 32, path).remember(*OLD, since=None)
        with pytest.raises(ConfigurationError, match=f"expected deployment {DEPLOYMENT}, got aaaa"):
            LogState(DEPLOYMENT, path)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version":1,"extra":1}', b" " * 2000])
    def test_a_malformed_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "log.json"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="log state"):
            LogState(DEPLOYMENT, path)
