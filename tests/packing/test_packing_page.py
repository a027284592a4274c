"""What docs/models.md shows is what the command line takes and the readers read."""

import re
import shlex
from pathlib import Path

import click
import pytest

from s3ml.apps.cli.root import cli
from s3ml.apps.packing.settings import read_settings

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ s3ml (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    words = shlex.split(line)
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None
        command, context = found, click.Context(found, parent=context)

    assert command.make_context("page", words).params["source"]


def test_the_settings_are_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "model.toml").write_text(block)
    declaration = read_settings(tmp_path / "model.toml")

    assert declaration.batching is not None
    assert declaration.resources is not None
    assert declaration.inputs[0].shape == (-1, 30)
