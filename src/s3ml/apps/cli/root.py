"""The root of the command line: which module holds which command, and how errors end."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError

_COMMANDS = {
    "balancer": "Operator: balance by the nodes' TEE memory; see why a replica was chosen; switch policies.",
    "collateral": "Fetch what vendors sign about platforms, and show it.",
    "demo": "The whole way on real data: serve an encrypted model to a client that verified it.",
    "deployment": "Owners: propose, sign and begin a deployment, and change what governs it.",
    "epc-emulate": "Play nodes with a small EPC on this machine: EMULATED, as root.",
    "image": "Render and check images of enclaves for Gramine.",
    "infer": "Client: verify a service, seal inputs, print the outputs.",
    "key": "Make signing keys.",
    "log": "Anyone: read, check and follow a deployment's log.",
    "measure": "Compute the measurement of the installed code.",
    "model": "Model owners: pack, encrypt and sign a model.",
    "node-agent": "Operator: sample a node's TEE memory, and serve readings and metrics.",
    "policy": "Owners: write, check, compare, sign and delete policies.",
    "profile": "Model owners and operators: measure what a model costs in time and memory.",
    "proxy": "Client: speak the plain protocol on this machine, REST and gRPC, and forward sealed.",
    "recovery": "Holders and owners: recover a deployment's keys by shares, and rehearse it.",
    "repository": "Callers: list a service's models; load and unload them, with the role for it.",
    "secret": "Owners: sign secrets of services, take them away; anyone: list them.",
    "service": "Owners: sign services, rotate their keys, take them away; anyone: list them.",
    "sign": "Owners: add a signature to any message, and see first what it says.",
    "status": "Show where a deployment and its key service stand, as their operator reports it.",
    "up": "Operator: run a local cluster in the foreground.",
    "verify": "Client: verify a service and print what was verified, step by step.",
    "verify-evidence": "Auditor: appraise evidence from a file, offline, and print every step.",
    "witness": "Keep logs from being shown differently to different people.",
}

EXIT_INTERNAL = 1
EXIT_INPUT = 2
EXIT_UNTRUSTED = 3
EXIT_UNAVAILABLE = 4
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

EXIT_STATUS: tuple[tuple[type[S3MLError], int], ...] = (
    (UntrustedPeerError, EXIT_UNTRUSTED),
    (UnavailableError, EXIT_UNAVAILABLE),
    (ConfigurationError, EXIT_INPUT),
    (S3MLError, EXIT_INTERNAL),
)


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name, in alphabetical order."""
        _ = ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or nothing where there is none of that name."""
        _ = ctx
        if cmd_name not in _COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command = importlib.import_module(f"s3ml.apps.cli.{module}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"s3ml.apps.cli.{module}.command is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        _ = ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="s3ml", prog_name="s3ml")
def cli() -> None:
    """Serve machine-learning models on clusters that nobody trusts to read them.

    There is no TEE hardware behind a SIMULATED deployment: it protects nothing from its host.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status.

    0 done; 1 internal error; 2 the input is wrong; 3 a peer is not to be trusted; 4 unavailable, retry later;
    130 interrupted.
    """
    # Commands say themselves, once and in colour, what the library would log: SIMULATED, NOT FORK-PROTECTED.
    logging.getLogger("s3ml").addHandler(logging.NullHandler())
    try:
        with cli.make_context("s3ml", list(arguments)) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except S3MLError as error:
        _traceback_if_asked()
        return _fail(str(error), next(status for kind, status in EXIT_STATUS if isinstance(error, kind)))
    except Exception as error:  # noqa: BLE001 - the outermost edge: one line, never a traceback by default
        _traceback_if_asked()
        hint = "set S3ML_TRACEBACK=1 to see where"
        return _fail(f"internal error: {type(error).__name__}: {error} ({hint})", EXIT_INTERNAL)
    return result if isinstance(result, int) else 0


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"s3ml: {line}\n")
    return status


def _traceback_if_asked() -> None:
    if os.environ.get("S3ML_TRACEBACK") == "1":
        raise  # noqa: PLE0704 - called from except blocks only
