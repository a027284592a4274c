"""The process of the simulated platform: ``python -m s3ml.apps.processes.platform --state DIR``."""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from s3ml.attestation.evidence import Technology
from s3ml.attestation.simulated.collateral import TCB_STATES
from s3ml.attestation.simulated.instances import die_with_parent
from s3ml.attestation.simulated.platform import run_platform
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import S3MLError

READY = "READY"


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit status, 2 when the state folder does not serve."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(
        prog="python -m s3ml.apps.processes.platform",
        description="The SIMULATED platform: measures and launches enclave processes. It protects nothing.",
    )
    parser.add_argument("--state", type=Path, required=True, help="folder of its keys, sockets and images")
    parser.add_argument("--die-with-parent", action="store_true", help="stop when the starting thread ends")
    parser.add_argument(
        "--simulates", type=Technology, choices=list(Technology), default=Technology.SGX, help="whose formats"
    )
    parser.add_argument(
        "--tcb", choices=list(TCB_STATES), default=DEFAULT_TCB_STATE, help="what the vendor says of it"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s SIMULATED platform %(levelname)s %(message)s",
    )
    try:
        if options.die_with_parent:
            die_with_parent(parent, signal.SIGTERM)
        run_platform(
            options.state,
            clock=SystemClock(),
            ready=_say_ready,
            simulates=options.simulates,
            tcb=options.tcb,
        )
    except (S3MLError, OSError) as error:
        sys.stderr.write(f"SIMULATED platform: {error}\n")
        return 2
    return 0


def _say_ready() -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
