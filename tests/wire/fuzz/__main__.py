"""Fuzz the codecs of the Open Inference Protocol for long: `python -m tests.wire.fuzz SECONDS [TARGET …]`."""

import sys

from tests.fuzzing import engine

if __name__ == "__main__":
    sys.exit(engine.main("tests.wire.fuzz", "s3ml.wire", sys.argv[1:]))
