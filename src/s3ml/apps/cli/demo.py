"""`s3ml demo`: the whole way on real data, in under a minute."""

import shutil
import tempfile
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from s3ml.apps.cli.console import stderr, stdout, warn_about
from s3ml.apps.cli.options import json_option
from s3ml.primitives.errors import ConfigurationError


@click.command("demo")
@json_option
def command(*, as_json: bool) -> int:
    """Serve an encrypted model to a client that verified it, and try to break it.

    Trains a classifier on real clinical measurements; starts a local cluster; plays owners, model owner,
    operator and client, each with their own keys; kills a replica under load; starts changed replicas, which
    must get no keys; searches everything that the operator could see. Exit status 0 only when all of it held.
    """
    try:
        from s3ml.apps.cluster import ClusterFolder, Interruption, Stopped  # noqa: PLC0415 - needs the extra `local`
        from s3ml.apps.demo.account import render  # noqa: PLC0415
        from s3ml.apps.demo.story import run_demo  # noqa: PLC0415 - needs the extra `demo`
    except ImportError as error:
        raise ConfigurationError(f"demo: {error}: pip install 's3ml[demo]'") from error
    interruption = Interruption()
    warn_about(is_simulated=True, is_fork_protected=False)
    work = Path(tempfile.mkdtemp(prefix="s3ml-demo-"))
    folder = ClusterFolder.create(None)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=stderr) as bars:
            tasks: dict[str, TaskID] = {}

            def progress(title: str, share: float | None) -> None:
                if title not in tasks:
                    tasks[title] = bars.add_task(title, total=1.0)
                bars.update(tasks[title], completed=share or 0.0)

            account = run_demo(work, folder, progress=progress, interruption=interruption)
    except Stopped:
        raise KeyboardInterrupt from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
        folder.remove()
    if as_json:
        click.echo(account.to_json())
    else:
        render(account, stdout)
    return 1 if account.broken else 0
