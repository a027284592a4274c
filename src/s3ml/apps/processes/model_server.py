"""The model server's process: what is measured, and what the operator starts.

Takes no arguments. Settings come from an allow-list of ``S3ML_*`` variables, none of which any trust decision
depends on.
"""

import os
import sys

from s3ml.apps.processes.attester import find_attester
from s3ml.listening import end_process
from s3ml.modelserver import parse_settings, run
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
    end_process(0)
