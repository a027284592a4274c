"""Fuzz the proxy's gRPC mapping for long: `python -m tests.client.proxy.fuzz SECONDS [TARGET …]`."""

import sys

from tests.fuzzing import engine

if __name__ == "__main__":
    sys.exit(engine.main("tests.client.proxy.fuzz", "s3ml.client.proxy", sys.argv[1:]))
