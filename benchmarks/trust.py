"""How long a client needs to verify a trust bundle: the first one of a process, and those after it.

The bundles come from a running key service, each for a fresh nonce. Every process verifies them all; no
bundle is verified twice by the code that is timed.

Usage: ``python -m benchmarks.trust [--quick] [--output DIR]``.
"""

import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

from benchmarks import releases
from benchmarks.deployment import Deployed, run
from benchmarks.summaries import summary
from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.demo.roles import SERVICE
from s3ml.keyservice.documents import TrustBundleRequest

AIM_MS = 5.0


def fetch(world: Deployed, count: int) -> tuple[list[dict[str, str]], list[float]]:
    """Return `count` bundles for fresh nonces, and how many milliseconds each took to come."""
    client = key_service_at(world.cluster.endpoints.gateway)
    bundles, durations_ms = [], []
    for _ in range(count):
        nonce, requested_at, began = secrets.token_bytes(32), datetime.now(UTC), time.perf_counter()
        bundle = client.trust_bundle(TrustBundleRequest(service=SERVICE, nonce=nonce))
        durations_ms.append((time.perf_counter() - began) * 1e3)
        one = {"bundle": b64encode(bundle).decode(), "nonce": nonce.hex()}
        bundles.append({**one, "requested_at": requested_at.isoformat()})
    client.close()
    return bundles, durations_ms


def verify(world: Deployed, bundles: list[dict[str, str]], processes: int) -> list[dict[str, Any]]:
    """Return what each of several fresh processes says of verifying all bundles."""
    plan = json.dumps({"trust": str(world.trust), "service": SERVICE, "bundles": bundles})
    command = [sys.executable, "-m", "benchmarks.trust_verify"]
    return [
        json.loads(subprocess.run(command, input=plan, text=True, check=True, stdout=subprocess.PIPE).stdout)
        for _ in range(processes)
    ]


def measure(world: Deployed, *, is_quick: bool) -> dict[str, Any]:
    """Return how long bundles take to come and to verify, and how fast keys are released."""
    print("trust: fetching bundles", flush=True)
    bundles, fetched_ms = fetch(world, 3 if is_quick else 100)
    print("trust: verifying them", flush=True)
    told = verify(world, bundles, 1 if is_quick else 9)
    print("trust: releases of keys, in this process", flush=True)
    released = asyncio.run(releases.measure(20 if is_quick else 1000))
    cold_ms = summary([one["verify_us"][0] / 1e3 for one in told])
    repeated_us = [duration for one in told for duration in one["verify_us"][1:]]
    names = told[0]["by_function_us"]
    return {
        "bundle_bytes": len(bundles[0]["bundle"]) * 3 // 4,
        "fetch_ms": summary(fetched_ms),
        "import_ms": summary([one["import_ms"] for one in told]),
        "cold_ms": cold_ms,
        "repeated_us": summary(repeated_us, 1),
        "by_function_us": {
            name: round(statistics.median(one["by_function_us"][name] for one in told), 1) for name in names
        },
        "releases": released,
        "aims": [
            {
                "aim": "verification of a trust bundle, cold",
                "unit": "ms",
                "below": AIM_MS,
                "got": cold_ms["median"],
                "is_met": cold_ms["median"] < AIM_MS,
            },
            {
                "aim": "verification of a trust bundle, repeated",
                "unit": "ms",
                "below": AIM_MS,
                "got": round(statistics.median(repeated_us) / 1e3, 3),
                "is_met": statistics.median(repeated_us) / 1e3 < AIM_MS,
            },
        ],
    }


if __name__ == "__main__":
    run({"trust": measure}, __doc__)
