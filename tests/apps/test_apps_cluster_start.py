"""A cluster that cannot start says why in one line, though its folder is gone by then."""

import subprocess
from pathlib import Path

import pytest

from s3ml.apps.cluster.process import last_line
from tests.apps.conftest import BIN, DEADLINE_S
from tests.ports import refusing_port


class TestLastLine:
    """What a process said last, however much it said before."""

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"", "it said nothing"),
            (b"one\ntwo\n", "two"),
            (b"x" * 10_000 + b"\nwhy\n", "why"),
            (b"\xff\xfe broken\n", "�� broken"),
        ],
    )
    def test_it_is_the_last(self, tmp_path: Path, content: bytes, told: str) -> None:
        (tmp_path / "log").write_bytes(content)
        assert last_line(tmp_path / "log") == told

    def test_no_log(self, tmp_path: Path) -> None:
        assert last_line(tmp_path / "log") == "it said nothing"


@pytest.mark.integration
class TestDatabase:
    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("mysql://localhost/s3ml", "expected a path or postgresql://"),
            ("postgresql://s3ml:hunter2@127.0.0.1:{port}/s3ml", "storage: "),
        ],
    )
    def test_a_database_that_does_not_serve(self, url: str, told: str) -> None:
        """The line says what the key service said, and never the URL, which may hold a password."""
        with refusing_port() as port:
            done = subprocess.run(
                [BIN / "s3ml", "up", "a", "--replicas", "1", "--database", url.format(port=port)],
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
        assert done.returncode == 4, done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith("s3ml: key-service: ended at its start: key service: storage: ")
        assert told in line
        assert "hunter2" not in done.stderr
