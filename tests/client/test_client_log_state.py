"""A client remembers the newest log that it verified."""

from pathlib import Path

import pytest
from tests.client.world import DEPLOYMENT

from s3ml.client.log_state import LogState
from s3ml.primitives.errors import ConfigurationError

OLD, NEW = (5, b"\x05" * 32), (9, b"\x09" * 32)


class TestMemory:
    """Only ever a newer log."""

    def test_nothing_is_known_at_first(self) -> None:
        assert LogState(DEPLOYMENT).known is None

    def test_an_older_log_is_forgotten_not_the_newer(self) -> None:
        state = LogState(DEPLOYMENT)
        state.remember(*NEW)
        state.remember(*OLD)
        assert state.known == NEW


class TestFile:
    """A file outlives the process; a wrong one is an error and no fresh start."""

    def test_it_outlives_the_client(self, tmp_path: Path) -> None:
        path = tmp_path / "log.json"
        LogState(DEPLOYMENT, path).remember(*OLD)
        LogState(DEPLOYMENT, path).remember(*NEW)
        assert LogState(DEPLOYMENT, path).known == NEW

    def test_another_deployments_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "log.json"
        LogState("aa" * 32, path).remember(*OLD)
        with pytest.raises(ConfigurationError, match=f"expected deployment {DEPLOYMENT}, got aaaa"):
            LogState(DEPLOYMENT, path)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version":1,"extra":1}', b" " * 2000])
    def test_a_malformed_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "log.json"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="log state"):
            LogState(DEPLOYMENT, path)
