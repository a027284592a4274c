"""How the command line speaks: warnings that cannot be missed, facts in tables, JSON for scripts."""

from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

SIMULATED_LINE = "no TEE hardware protects this deployment; its host can read everything."
FORKABLE_LINE = "no witnesses are named; whoever holds the storage can show an old or a forked log."


def warn_about(*, is_simulated: bool, is_fork_protected: bool) -> None:
    """Say loudly, on standard error, what this deployment does not protect from."""
    if is_simulated:
        warn_about_simulation(SIMULATED_LINE)
    if not is_fork_protected:
        stderr.print(f"[bold black on yellow] NOT FORK-PROTECTED [/] {FORKABLE_LINE}")


def warn_about_simulation(line: str) -> None:
    """Say loudly, on standard error, what a simulation does not protect from."""
    stderr.print(f"[bold white on red] SIMULATED [/] {line}")


def print_json(value: Any) -> None:
    """Print one JSON object on one line of standard output."""
    click.echo(msgspec.json.encode(value).decode())


def facts(rows: list[tuple[str, str]], *, title: str | None = None) -> Table:
    """Return a borderless two-column table of names and values."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table
