"""The texts of `--help` are pinned: a change of them is seen in a review.

To renew: ``S3ML_PIN_HELP=1 python -m pytest tests/apps/test_apps_help.py``.
"""

import os
from pathlib import Path

import click
import pytest

from s3ml.apps.cli.root import cli

PINNED = Path(__file__).with_name("help.txt")


def all_help() -> str:
    """Return the help of every command, in order, 100 columns wide."""
    pages: list[str] = []

    def visit(command: click.Command, context: click.Context) -> None:
        command._help_option = None  # click remembers the one of the context that came first
        pages.append(command.get_help(context))
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                visit(child, click.Context(child, parent=context, info_name=name, terminal_width=100))

    names = ["-h", "--help"]
    visit(cli, click.Context(cli, info_name="s3ml", terminal_width=100, help_option_names=names))
    return "\n\n".join("\n".join(line.rstrip() for line in page.splitlines()) for page in pages) + "\n"


class TestHelp:
    def test_it_is_the_pinned_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("S3ML_GATEWAY", raising=False)
        monkeypatch.delenv("S3ML_TRUST", raising=False)
        if os.environ.get("S3ML_PIN_HELP") == "1":
            PINNED.write_text(all_help(), encoding="utf-8")
        assert all_help() == PINNED.read_text(encoding="utf-8")
