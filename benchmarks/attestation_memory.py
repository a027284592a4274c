"""Verifies evidence of every kind in a process of its own and says what memory it takes.

Started by `attestation.py`. Reads a plan on standard input: a list of evidence with its policy, report data
and time.
"""

import json
import sys
from datetime import datetime

from benchmarks.memory_steps import memory_of


def main() -> None:
    """Read the memory before anything is loaded, after the import, and after all verifications."""
    told = {"interpreter": memory_of()}
    from s3ml.attestation import VerdictCache, parse_evidence, parse_policy, verify_evidence  # noqa: PLC0415

    told["imported"] = memory_of()
    cache = VerdictCache()
    for one in json.load(sys.stdin):
        evidence, policy = parse_evidence(one["evidence"].encode()), parse_policy(one["policy"].encode())
        now = datetime.fromisoformat(one["now"])
        for _ in range(100):
            report_data = bytes.fromhex(one["report_data"])
            verify_evidence(evidence, policy, report_data=report_data, now=now, cache=cache)
            verify_evidence(evidence, policy, report_data=report_data, now=now)
    told["verified"] = memory_of()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
