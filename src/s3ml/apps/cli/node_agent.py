"""`s3ml node-agent`: what balancers and operators see of a node's TEE memory."""

import os
import re
import socket
from pathlib import Path

import click
from rich.markup import escape

from s3ml.apps.cli.console import facts, print_json, stderr, stdout
from s3ml.apps.cli.options import FOLDER
from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory.reading import Kind
from s3ml.tee_memory.readings import check_monitored_name
from s3ml.tee_memory.sampler import Sampler

try:
    from s3ml.apps.processes.node_agent import serve
    from s3ml.tee_memory.finding import Wishes
except ImportError as _missing:
    raise ConfigurationError(f"node-agent: {_missing}: pip install 's3ml[agent]'") from _missing

SIMULATED_LINE = "these readings are computed from a model; nothing is measured."
EMULATED_LINE = "these readings are of ordinary memory that pages like a TEE's; no TEE is here."
_INTERVAL = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|)", re.ASCII)
_INTERVAL_LEAST_S = 0.05
_INTERVAL_MOST_S = 60.0
_PORT_LIMIT = 65535


def _interval(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    found = _INTERVAL.fullmatch(text)
    interval_s = 0.0 if found is None else float(found[1]) / (1000 if found[2] == "ms" else 1)
    if not _INTERVAL_LEAST_S <= interval_s <= _INTERVAL_MOST_S:
        raise ConfigurationError(f"--interval: expected 50ms to 60s, such as 250ms or 1s, got {text[:80]!r}")
    return interval_s


@click.command("node-agent")
@click.option(
    "--source",
    metavar="SOURCE",
    default="auto",
    show_default=True,
    help="auto: sgx or cvm, whichever is here; sgx; cvm; emulated:NAME, of `s3ml epc-emulate`; simulated.",
)
@click.option(
    "--node",
    metavar="NAME",
    default=socket.gethostname,
    show_default="this machine's name",
    help="What the node is called.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9105",
    show_default=True,
    help="Port 0 takes any free one.",
)
@click.option(
    "--interval",
    "interval_s",
    metavar="TIME",
    default="1s",
    show_default=True,
    callback=_interval,
    help="Between two samples: 50ms to 60s.",
)
@click.option(
    "--server",
    "servers",
    metavar="NAME=FOLDER",
    multiple=True,
    help="With sgx and cvm: a server, and the folder of its control group; repeat it.",
)
@click.option(
    "--servers",
    "parents",
    metavar="FOLDER",
    type=FOLDER,
    multiple=True,
    help="With sgx and cvm: every control group in this folder is a server; repeat it.",
)
@click.option(
    "--root",
    type=FOLDER,
    default=Path("/"),
    show_default=True,
    help="Where the machine's /proc, /sys and /dev are; elsewhere in a container.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead, once it listens.")
def command(
    *,
    source: str,
    node: str,
    listen: str,
    interval_s: float,
    servers: tuple[str, ...],
    parents: tuple[Path, ...],
    root: Path,
    as_json: bool,
) -> None:
    """Sample a node's TEE memory, and serve readings and metrics until SIGTERM.

    GET /v1/readings is for balancers, /metrics for Prometheus, /livez and /readyz for whoever runs it.
    """
    host, port = _address(listen)
    serve(
        Wishes(source=source, root=root, named=dict(map(_server, servers)), parents=parents),
        node=check_monitored_name(node, what="--node"),
        host=host,
        port=port,
        interval_s=interval_s,
        announce=lambda url, sampler, warning: _announce(url, sampler, warning, as_json=as_json),
    )


def _announce(url: str, sampler: Sampler, warning: str | None, *, as_json: bool) -> None:
    """Say where it listens, what it reads, and what that is not."""
    readings = sampler.readings()
    if readings.kind is Kind.SIMULATED:
        stderr.print(f"[bold white on red] SIMULATED [/] {SIMULATED_LINE}")
    if readings.kind is Kind.EMULATED:
        stderr.print(f"[bold white on red] EMULATED [/] {EMULATED_LINE}")
    if warning is not None:
        stderr.print(f"[bold black on yellow] BLIND [/] {escape(warning)}")
    if as_json:
        print_json(
            {
                "url": url,
                "node": readings.node,
                "kind": readings.kind,
                "source": readings.source,
                "is_simulated": readings.is_simulated,
                "is_emulated": readings.is_emulated,
                "interval_s": readings.interval_s,
                "warning": warning,
                "pid": os.getpid(),
            }
        )
        return
    rows = [
        ("readings", f"{url}/v1/readings"),
        ("metrics", f"{url}/metrics"),
        ("node", readings.node),
        ("source", escape(f"{readings.kind}: {readings.source}")),
    ]
    stdout.print(facts(rows))
    stdout.print("Sampling. Ctrl-C stops it.")


def _server(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not separator or not folder:
        raise ConfigurationError(f"--server: expected NAME=FOLDER, got {text[:80]!r}")
    return check_monitored_name(name, what="--server"), Path(folder)


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (separator and host and port.isascii() and port.isdecimal() and int(port[:6]) <= _PORT_LIMIT):
        raise ConfigurationError(f"--listen: expected HOST:PORT, got {text[:80]!r}")
    return host, int(port)
