"""The model server's process: what is measured, and what the operator starts.

Takes no arguments. Settings come from an allow-list of ``S3ML_*`` variables, none of which any trust decision
depends on.
"""

import os
import sys

from s3ml.attestation.generate import Attester
from s3ml.modelserver import Settings, parse_settings, run
from s3ml.primitives.errors import ConfigurationError, S3MLError

EXIT_CONFIGURATION = 2
EXIT_FAILURE = 1


def main() -> None:
    """Serve until SIGTERM; end with status 0, or with one clear line and another status."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        settings = parse_settings()
        run(settings, find_attester(settings))
    except S3MLError as error:
        sys.stderr.write(f"model server: {error}\n")
        sys.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else EXIT_FAILURE)


def find_attester(settings: Settings) -> Attester:
    """Return the TEE that this process runs in.

    Raises:
        ConfigurationError: there is none, or it is a simulated one and this image has no simulation.
    """
    if settings.simulated_platform is None:
        raise ConfigurationError(
            "no TEE found: expected S3ML_SIMULATED_PLATFORM to name the socket of a simulated platform"
        )
    try:
        from s3ml.attestation.simulated.attester import SimulatedAttester  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "S3ML_SIMULATED_PLATFORM is set, but this image leaves the simulated platform out: "
            "run it on a real TEE, or use an image with the simulation"
        ) from error
    return SimulatedAttester(settings.simulated_platform)
