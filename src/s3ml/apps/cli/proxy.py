"""`s3ml proxy`: the plain protocol on this machine, sealed from here on."""

import ipaddress
import logging
import math
import os
from pathlib import Path

import click

from s3ml.apps.cli.console import facts, print_json, stderr, stdout, warn_about
from s3ml.apps.cli.credentials import credentials_options, renewed_credentials
from s3ml.apps.cli.options import FILE, gateway_option, json_option, trust_option
from s3ml.client import AsyncClient, Trust
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name

try:
    import uvloop

    from s3ml.apps.processes.proxy import Address, Listening, ProxySettings, serve
except ImportError as _missing:
    raise ConfigurationError(f"proxy: {_missing}: pip install 's3ml[proxy]'") from _missing

# What was taken is answered, even when it takes all of its time.
DRAIN_MARGIN_S = 5
_PORT_LIMIT = 65535


@click.command("proxy")
@click.option(
    "--service",
    "services",
    metavar="NAME",
    multiple=True,
    help="Serve this service's models; repeat it. [default: those that the trust file names]",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8000",
    show_default=True,
    help="For REST; port 0 takes any free one.",
)
@click.option(
    "--grpc",
    "grpc_listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8001",
    show_default=True,
    help="For gRPC, likewise.",
)
@click.option("--no-grpc", is_flag=True, help="Do not listen for gRPC.")
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Listen beyond loopback. What travels to the proxy is PLAINTEXT, and whoever reaches it may call.",
)
@click.option(
    "--forward-authorization",
    is_flag=True,
    help="Call with the local client's own bearer token where it sends one; it leaves sealed only.",
)
@credentials_options
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.001),
    default=30.0,
    show_default=True,
    help="How long a request may take, in seconds, retries included; a gRPC deadline comes first.",
)
@click.option(
    "--log-state",
    type=FILE,
    help="Keep the newest verified log in this file, so that a rolled-back one is noticed after a restart.",
)
@trust_option
@gateway_option
@json_option
def command(
    *,
    services: tuple[str, ...],
    listen: str,
    grpc_listen: str,
    no_grpc: bool,
    allow_remote: bool,
    forward_authorization: bool,
    token_file: Path | None,
    caller_key: Path | None,
    timeout_s: float,
    log_state: Path | None,
    trust: Path,
    gateway: str,
    as_json: bool,
) -> None:
    """Speak the plain Open Inference Protocol on this machine, and forward sealed.

    Unmodified clients of the protocol, over REST and gRPC, reach the models of verified services here.
    Nothing leaves this machine but sealed to a service that was verified; when trust fails, requests fail
    with the reason. Serves until SIGTERM or Ctrl-C, then finishes what is under way.
    """
    rest = _address(listen, "--listen")
    grpc = None if no_grpc else _address(grpc_listen, "--grpc")
    is_local = _is_loopback(rest) and (grpc is None or _is_loopback(grpc))
    if not is_local and not allow_remote:
        raise ConfigurationError(
            "proxy: expected loopback addresses: what travels to the proxy is plaintext, and whoever reaches "
            "it may call; --allow-remote listens elsewhere all the same"
        )
    pinned = Trust.read(trust)
    settings = ProxySettings(
        rest=rest,
        grpc=grpc,
        is_local=is_local,
        forwards_authorization=forward_authorization,
        drain_s=math.ceil(timeout_s) + DRAIN_MARGIN_S,
    )
    credentials = renewed_credentials(token_file, caller_key, command="proxy")
    chosen = tuple(check_name(name, what="service") for name in services) or _pinned_services(pinned, trust)
    _log_to_stderr()

    async def run() -> None:
        async with AsyncClient(
            gateway, pinned, credentials=credentials, timeout_s=timeout_s, log_state=log_state
        ) as client:
            await serve(settings, client, chosen, announce=announce)

    def announce(listening: Listening) -> None:
        _announce(listening, gateway, is_local=is_local, as_json=as_json)

    uvloop.run(run())
    stderr.print("stopped")


def _announce(listening: Listening, gateway: str, *, is_local: bool, as_json: bool) -> None:
    """Say where requests are taken, for which models, and what protects them."""
    is_simulated = any(verified.is_simulated for verified in listening.verified)
    is_fork_protected = all(verified.is_fork_protected for verified in listening.verified)
    warn_about(is_simulated=is_simulated, is_fork_protected=is_fork_protected)
    if not is_local:
        stderr.print("[bold black on yellow] PLAINTEXT [/] it listens beyond loopback: others read and call.")
    models = {
        verified.service: sorted({stated.model for stated in verified.models})
        for verified in listening.verified
    }
    rest = f"http://{listening.rest}"
    grpc = None if listening.grpc is None else str(listening.grpc)
    if as_json:
        print_json(
            {
                "rest": rest,
                "grpc": grpc,
                "gateway": gateway,
                "services": models,
                "is_simulated": is_simulated,
                "is_fork_protected": is_fork_protected,
                "pid": os.getpid(),
            }
        )
        return
    rows = [("REST", rest), ("gRPC", grpc or "not listened for"), ("gateway", gateway)]
    rows += [(f"service {service}", ", ".join(names) or "no models") for service, names in models.items()]
    stdout.print(facts(rows))
    stdout.print("Verified. Ctrl-C stops it.")


def _address(text: str, setting: str) -> Address:
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdigit() and int(port) <= _PORT_LIMIT
    if not separator or not host or not is_number:
        raise ConfigurationError(f"{setting}: expected HOST:PORT, got {text[:80]!r}")
    return Address(host=host, port=int(port))


def _is_loopback(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"


def _pinned_services(trust: Trust, path: Path) -> tuple[str, ...]:
    if not trust.services:
        raise ConfigurationError(f"{path}: names no service: name one with --service")
    return tuple(sorted(trust.services))


def _log_to_stderr() -> None:
    """Show what the proxy logs about trust while it runs, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("s3ml.client.proxy").addHandler(handler)
