"""Memory, starts and verification, measured in one deployment: what `run.py` starts when all are wanted.

Usage: ``python -m benchmarks.both [--quick] [--output DIR]``.
"""

from benchmarks import memory, trust
from benchmarks.deployment import run

if __name__ == "__main__":
    run({"memory": memory.measure, "trust": trust.measure}, __doc__)
