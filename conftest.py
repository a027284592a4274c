"""Property tests have no deadline of wall-clock time, and leave no database behind."""

import os

from hypothesis import settings

# Read when ONNX Runtime is imported: a test run sends nothing to anybody.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
settings.register_profile("s3ml", deadline=None, database=None)
settings.load_profile("s3ml")
