"""Verifies trust bundles in a process of its own and says how long each took; started by `trust.py`.

The first verification of a process is the cold one. Timers around the public functions that a verification
calls are put in afterwards, for a second pass that says where the time goes.
"""

import json
import sys
import time

_BEGAN = time.perf_counter()

from base64 import b64decode  # noqa: E402
from collections.abc import Callable  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import s3ml.client.sync  # noqa: E402, F401 - what a client has loaded when it verifies
from s3ml.client.trust import Trust  # noqa: E402
from s3ml.keyservice.client import trust_bundle, verify_trust_bundle  # noqa: E402

_IMPORTED = time.perf_counter()

TIMED = (
    "parse_document",
    "deployment_id",
    "identify_genesis",
    "parse_evidence",
    "verify_evidence",
    "open_checkpoint",
    "verify_inclusion",
    "open_control",
    "read_manifest",
    "read_policy",
    "widenings",
)


def verify_all(plan: dict[str, Any], anchor: Any) -> list[float]:
    """Verify each bundle once; return microseconds."""
    durations = []
    for one in plan["bundles"]:
        bundle, nonce = b64decode(one["bundle"]), bytes.fromhex(one["nonce"])
        requested_at = datetime.fromisoformat(one["requested_at"])
        now = datetime.now(UTC)
        began = time.perf_counter()
        verified = verify_trust_bundle(
            bundle, anchor=anchor, service=plan["service"], nonce=nonce, requested_at=requested_at, now=now
        )
        durations.append((time.perf_counter() - began) * 1e6)
        assert verified.service == plan["service"]
    return durations


def timed(name: str, function: Callable[..., Any], spent_s: dict[str, float]) -> Callable[..., Any]:
    """Return `function` with a timer around it that adds to ``spent_s[name]``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent_s[name] += time.perf_counter() - began

    return call


def main() -> None:
    """Verify the bundles of the plan on standard input."""
    plan = json.load(sys.stdin)
    anchor = Trust.read(Path(plan["trust"])).anchor(plan["service"])
    durations_us = verify_all(plan, anchor)
    spent_s = dict.fromkeys(TIMED, 0.0)
    for name in TIMED:
        setattr(trust_bundle, name, timed(name, getattr(trust_bundle, name), spent_s))
    again_us = verify_all(plan, anchor)
    per_call_us = {name: spent / len(again_us) * 1e6 for name, spent in spent_s.items()}
    told = {"import_ms": (_IMPORTED - _BEGAN) * 1e3, "verify_us": durations_us, "by_function_us": per_call_us}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
