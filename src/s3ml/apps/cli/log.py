"""`s3ml log`: read, keep, check and follow a deployment's log; its key service is trusted with nothing."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.markup import escape

from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.cli.console import print_json, stderr, stdout, warn_about
from s3ml.apps.cli.log_releases import releases_command
from s3ml.apps.cli.options import FILE, gateway_option, json_option, trust_option
from s3ml.apps.transparency.describing import describe, headline, kind_of
from s3ml.apps.transparency.replay import VerifiedHead, audit, size_of, steps_of
from s3ml.apps.transparency.sources import GatewayLog, LogFile, LogSource, export_log
from s3ml.apps.transparency.watching import News, Watch, follow
from s3ml.client.trust import Trust
from s3ml.keyservice.documents import LogEntry
from s3ml.keyservice.log import parse_entry
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import DIGEST_PATTERN

F = TypeVar("F", bound=Callable[..., Any])


def deployment_options(function: F) -> F:
    """Add ``--deployment ID`` and ``--trust FILE``: which log is expected."""
    option = click.option("--deployment", metavar="ID", help="The deployment's id, instead of a trust file.")
    return option(trust_option(function))


def file_option(function: F) -> F:
    """Add ``--file FILE``."""
    return click.option(
        "--file", "path", type=FILE, help="Read this file, written by `s3ml log export`, and ask nobody."
    )(function)


@click.group("log")
def command() -> None:
    """Anyone: read, check and follow a deployment's log."""


command.add_command(releases_command)


@command.command("show")
@gateway_option
@file_option
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the newest N entries.")
@json_option
def show_command(*, gateway: str, path: Path | None, last: int | None, as_json: bool) -> None:
    """Show each entry in plain words, the newest last: unverified, see `s3ml log audit`."""
    source = _source(gateway, path)
    size = size_of(source.checkpoint())
    start = max(0, size - last) if last is not None else 0
    entries = (parse_entry(data) for data in source.entries(start, size))
    if as_json:
        print_json({"log_size": size, "entries": [_document(entry) for entry in entries]})
        return
    stderr.print("[bold black on yellow] UNVERIFIED [/] as it was handed over; s3ml log audit checks it.")
    for entry in entries:
        _print(entry)


@command.command("export")
@click.argument("output", type=FILE)
@gateway_option
def export_command(output: Path, *, gateway: str) -> None:
    """Write the whole log, with its checkpoint, to the file OUTPUT; `s3ml log audit --file` checks it."""
    count = export_log(_source(gateway, None), output)
    click.echo(f"{output}: {count} entries, unverified; s3ml log audit --file {output}")


@command.command("audit")
@gateway_option
@file_option
@deployment_options
@json_option
def audit_command(
    *, gateway: str, path: Path | None, trust: Path, deployment: str | None, as_json: bool
) -> None:
    """Check the whole log and print what was checked; with --file offline.

    Exit status 0 only when every step held; 3 with one line about the first that does not.
    """
    head, replay = audit(_source(gateway, path), _deployment(trust, deployment))
    steps = steps_of(head, replay.kinds)
    if as_json:
        print_json(
            {
                **_head(head),
                "kinds": dict(replay.kinds),
                "steps": [
                    {"number": number, "title": title, "detail": detail} for number, title, detail in steps
                ],
            }
        )
        return
    _warn(head)
    for number, title, detail in steps:
        stdout.print(f"[green]✓[/] {number}  [bold]{title}[/]")
        stdout.print(f"     {escape(detail)}", style="dim")
    stdout.print(f"[bold green]Checked:[/] {head.size} entries.")


@command.command("watch")
@gateway_option
@deployment_options
@click.option(
    "--state",
    type=FILE,
    default=Path("log-watch.json"),
    show_default=True,
    help="Where the newest verified checkpoint is kept; losing it forgets what was seen.",
)
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1, 86400),
    default=10.0,
    show_default=True,
    help="Between two looks, in seconds.",
)
@json_option
def watch_command(
    *,
    gateway: str,
    trust: Path,
    deployment: str | None,
    state: Path,
    once: bool,
    interval_s: float,
    as_json: bool,
) -> None:
    """Follow the log: print new entries once their head is verified and appends to all that was seen.

    Ends with status 3 when the log forks, goes back, or fails a step of `s3ml log audit`. --json prints one
    object a line for each new head.
    """
    watch = Watch(_deployment(trust, deployment), _source(gateway, None), state)
    if once:
        if (news := watch.look()) is not None:
            _print_news(news, as_json=as_json)
            watch.remember(news)
        return
    told = follow(watch, interval_s=interval_s, clock=SystemClock(), sleep=time.sleep, tell=_tell)
    for news in told:
        _print_news(news, as_json=as_json)


def _source(gateway: str, path: Path | None) -> LogSource:
    return LogFile(path) if path is not None else GatewayLog(key_service_at(gateway))


def _deployment(trust: Path, deployment: str | None) -> str:
    if deployment is None:
        return Trust.read(trust).deployment
    if not re.match(DIGEST_PATTERN, deployment):
        raise ConfigurationError(f"--deployment: expected 64 hexadecimal digits, got {deployment[:80]!r}")
    return deployment


def _print(entry: LogEntry) -> None:
    stdout.print(f"[bold]{escape(headline(entry))}[/]")
    for line in describe(entry):
        stdout.print(f"       {escape(line)}")


def _print_news(news: News, *, as_json: bool) -> None:
    if as_json:
        print_json({**_head(news.head), "entries": [_document(entry) for entry in news.entries]})
        return
    for entry in news.entries:
        _print(entry)
    cosigned = ", ".join(news.head.cosigned) or "no witness: NOT FORK-PROTECTED"
    stdout.print(f"[bold green]Verified:[/] {news.head.size} entries, cosigned by {escape(cosigned)}.")


def _tell(line: str) -> None:
    stderr.print(f"[bold black on yellow] WAITING [/] {escape(line)}")


def _warn(head: VerifiedHead) -> None:
    authority = head.authority
    warn_about(is_simulated=authority.is_simulated, is_fork_protected=authority.is_fork_protected)


def _head(head: VerifiedHead) -> dict[str, Any]:
    return {
        "deployment": head.authority.deployment,
        "log_size": head.size,
        "log_root": head.root.hex(),
        "cosigned": {name: at.isoformat() for name, at in head.cosigned.items()},
        "is_simulated": head.authority.is_simulated,
        "is_fork_protected": head.authority.is_fork_protected,
    }


def _document(entry: LogEntry) -> dict[str, Any]:
    return {
        "index": entry.index,
        "time": entry.time,
        "kind": kind_of(entry),
        "words": describe(entry),
        "body": msgspec.to_builtins(entry.body),
    }
