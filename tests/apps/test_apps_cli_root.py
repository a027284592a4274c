import subprocess
import sys
from pathlib import Path

import click
import pytest

from s3ml.apps.cli import root
from s3ml.apps.cli.root import run
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError


class TestExitStatus:
    """Every way to end has its status, and says one line."""

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (ConfigurationError("fix it"), 2),
            (UntrustedPeerError("a liar"), 3),
            (UnavailableError("later"), 4),
            (S3MLError("ours"), 1),
            (RuntimeError("a bug"), 1),
            (KeyboardInterrupt(), 130),
            (click.Abort(), 130),
            (click.UsageError("usage"), 2),
        ],
    )
    def test_it_follows_from_the_error(
        self,
        error: BaseException,
        status: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        @click.command()
        def failing() -> None:
            raise error

        monkeypatch.setattr(root.cli, "get_command", lambda _ctx, _name: failing)
        assert run(["failing"]) == status
        said = capsys.readouterr().err
        assert said.startswith("s3ml: ")
        assert said.count("\n") == 1
        assert "Traceback" not in said

    def test_a_command_s_own_status_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        command = click.Command("failing", callback=lambda: 7)
        monkeypatch.setattr(root.cli, "get_command", lambda _ctx, _name: command)
        assert run(["failing"]) == 7

    def test_help_ends_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--help"]) == 0
        assert "Commands:" in capsys.readouterr().out

    def test_an_unknown_command_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["nope"]) == 2
        assert capsys.readouterr().err == "s3ml: No such command 'nope'.\n"


class TestLaziness:
    """The list of commands imports none of them."""

    def test_help_imports_no_server(self) -> None:
        code = (
            "import sys\nfrom s3ml.apps.cli.root import run\nrun(['--help'])\n"
            "heavy = {'numpy', 'onnxruntime', 'uvicorn', 'sklearn', 'aiohttp', 'dcap_qvl'}\n"
            "sys.exit(len(heavy & set(sys.modules)))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)

    @pytest.mark.parametrize("name", root.cli.list_commands(click.Context(root.cli)))
    def test_every_listed_command_exists_and_explains_itself(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run([name, "--help"]) == 0
        assert "Usage: s3ml" in capsys.readouterr().out


class TestKeys:
    """Keys are made once, kept secret, and never overwritten by accident."""

    def test_generate_writes_both_halves(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["key", "generate", str(tmp_path / "alice")]) == 0
        assert (tmp_path / "alice.key").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "alice.pub").read_text().startswith("ed25519:")
        assert "PRIVATE" not in capsys.readouterr().out

    def test_an_existing_key_is_not_replaced(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(["key", "generate", str(tmp_path / "alice")])
        before = (tmp_path / "alice.key").read_bytes()
        assert run(["key", "generate", str(tmp_path / "alice")]) == 2
        assert "exists already" in capsys.readouterr().err
        assert (tmp_path / "alice.key").read_bytes() == before
        assert run(["key", "generate", "--force", str(tmp_path / "alice")]) == 0
        assert (tmp_path / "alice.key").read_bytes() != before
