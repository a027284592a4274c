"""`s3ml balancer run`: a balancer beside one gateway, until it is told to stop."""

from functools import partial
from pathlib import Path

import click

from s3ml.apps.cli.options import FILE, FOLDER
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.scheduling.balancer.settings import INTERVAL_RANGE_S, BalancerSettings, Steering
from s3ml.scheduling.model import MODEL_LIMIT_BYTES, Model, parse_model

try:
    import uvloop

    from s3ml.apps.processes.balancer import BalancerOptions, serve
except ImportError as _missing:
    raise ConfigurationError(f"balancer: {_missing}: pip install 's3ml[balancer]'") from _missing

_PORT_LIMIT = 65_535


@click.command("run")
@click.option(
    "--policy", type=click.Choice(tuple(POLICIES)), required=True, help="Which policy decides at first."
)
@click.option(
    "--gateway-folder",
    type=FOLDER,
    required=True,
    help="The gateway's folder: Envoy's admin.sock, and the folder endpoints that it watches.",
)
@click.option(
    "--membership",
    type=FILE,
    required=True,
    help="The JSON file that names replicas and agents; read at each step.",
)
@click.option("--control", type=FILE, required=True, help="The Unix socket to make for status and switches.")
@click.option(
    "--picker",
    metavar="HOST:PORT",
    help="Choose for each request, and listen here for the gateway. [default: by weights alone]",
)
@click.option(
    "--listen", metavar="HOST:PORT", help="Tell status and metrics here as well. [default: the socket alone]"
)
@click.option(
    "--costs",
    type=FILE,
    help="What a model costs, as JSON, for policies that predict. [default: what replicas show]",
)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(*INTERVAL_RANGE_S),
    default=0.2,
    show_default=True,
    help="From one step to the next, in seconds.",
)
def run_command(
    *,
    policy: str,
    gateway_folder: Path,
    membership: Path,
    control: Path,
    picker: str | None,
    listen: str | None,
    costs: Path | None,
    interval_s: float,
) -> None:
    """Watch a gateway and its nodes, and steer the gateway, until SIGTERM or Ctrl-C.

    Where it ends, the gateway goes on with the last weights, and without a picker.
    """
    steering = Steering.WEIGHTS if picker is None else Steering.PICKER
    options = BalancerOptions(
        policy=policy,
        gateway=gateway_folder,
        membership=membership,
        control=control,
        listen=None if listen is None else _address(listen, "--listen"),
        picker=None if picker is None else _address(picker, "--picker"),
        settings=BalancerSettings(steering=steering, interval_s=interval_s),
    )
    model = None if costs is None else _read_costs(costs)
    uvloop.run(serve(options, {name: partial(policy_named, name, model) for name in POLICIES}))


def _read_costs(path: Path) -> Model:
    """Read a model's costs.

    Raises:
        ConfigurationError: the file is missing or too large, or holds something else.
    """
    return parse_model(read_limited(path, limit_bytes=MODEL_LIMIT_BYTES, what="model costs"))


def _address(text: str, setting: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdecimal() and int(port[:6]) <= _PORT_LIMIT
    if not separator or not host or not is_number:
        raise ConfigurationError(f"{setting}: expected HOST:PORT, got {text[:80]!r}")
    return host, int(port)
