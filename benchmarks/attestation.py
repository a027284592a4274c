"""How long a verifier needs for evidence: of a platform it never saw, of a known one, and the same again.

Every sample has a platform of its own: keys, certificates, collateral. "Cold" is a running process that
holds the policy with its root, and nothing else of it. dcap-qvl alone, on the same quote and collateral,
takes turns with it. SIMULATED: the platforms are simulated ones, their evidence has the real formats.

Usage: ``python -m benchmarks.attestation [--quick] [--output DIR]``.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from dcap_qvl import QuoteCollateralV3, verify_with_root_ca

from benchmarks import machine
from benchmarks.summaries import RESULTS, summary, write
from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Evidence,
    Technology,
    Tee,
    VerdictCache,
    encode_evidence,
    encode_policy,
    verify_evidence,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.attestation.simulated.snp import guest_report, render_report
from s3ml.attestation.simulated.snp_pki import EndorsedPlatform, SimulatedSnpPKI, SnpKeys
from s3ml.attestation.simulated.tdx_event_log import encode_event_log, measured_event
from s3ml.attestation.simulated.tdx_quote import TrustDomainReport, render_tdx_quote
from s3ml.attestation.verify.amd.product import MILAN
from s3ml.attestation.verify.intel.event_log import replay
from s3ml.attestation.verify.intel.root import choose_anchor

AIM_RATIO, AIM_CACHED_US, AIM_SNP_US, AIM_MB = 1.3, 50.0, 1500.0, 60.0
NOW = datetime.now(UTC).replace(microsecond=0)
CREATED, ISSUED = NOW - timedelta(days=30), NOW - timedelta(hours=1)
FIRST, FRESH = hashlib.sha512(b"a request").digest(), hashlib.sha512(b"another request").digest()
EVENTS = tuple(measured_event(number % 4, str(number).encode()) for number in range(40))
_MEASUREMENT = hashlib.sha384(b"the code").digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A platform that no other sample has, and what it says.

    Args:
        first: Evidence for `FIRST`.
        fresh: Evidence of the same platform for `FRESH`.
        policy: That accepts both.
    """

    first: Evidence
    fresh: Evidence
    policy: AppraisalPolicy


def _sample(technology: Technology, root: bytes, measurement: bytes, *both: Evidence) -> Sample:
    accepted = Alternative(
        tee=Tee.SIMULATED, simulates=technology, root=root, measurements=(measurement.hex(),)
    )
    first, fresh = both
    return Sample(first=first, fresh=fresh, policy=AppraisalPolicy(accept=(accepted,)))


def _intel(pki: SimulatedPKI, technology: Technology, quote: bytes, log: bytes | None = None) -> Evidence:
    collateral = pki.collateral(ISSUED, technology=technology)
    return Evidence(
        tee=Tee.SIMULATED, simulates=technology, quote=quote, collateral=collateral, event_log=log
    )


def sgx_samples(count: int) -> Iterator[Sample]:
    """Make platforms with an SGX enclave each."""
    for _ in range(count):
        pki, measurement = SimulatedPKI.create(CREATED), _MEASUREMENT[:32]
        first, fresh = (
            EnclaveReport(
                measurement=measurement, signer=bytes(32), product_id=1, svn=1, report_data=report_data
            )
            for report_data in (FIRST, FRESH)
        )
        evidence = _intel(pki, Technology.SGX, render_quote(pki, first))
        again = msgspec.structs.replace(evidence, quote=render_quote(pki, fresh))
        yield _sample(Technology.SGX, pki.root_der, measurement, evidence, again)


def tdx_samples(count: int, log: bytes | None = None) -> Iterator[Sample]:
    """Make platforms with a TDX trust domain each."""
    registers = replay(EVENTS)
    for _ in range(count):
        pki = SimulatedPKI.create(CREATED)
        first, fresh = (
            TrustDomainReport(measurement=_MEASUREMENT, registers=registers, report_data=report_data)
            for report_data in (FIRST, FRESH)
        )
        evidence = _intel(pki, Technology.TDX, render_tdx_quote(pki, first), log)
        again = msgspec.structs.replace(evidence, quote=render_tdx_quote(pki, fresh))
        yield _sample(Technology.TDX, pki.root_der, _MEASUREMENT, evidence, again)


def logged_samples(count: int) -> Iterator[Sample]:
    """Make platforms with a TDX trust domain each, whose event log has 40 events."""
    return tdx_samples(count, encode_event_log(EVENTS))


def snp_samples(count: int) -> Iterator[Sample]:
    """Make processors with a SEV-SNP guest each, and a revocation list."""
    keys = SnpKeys.create()
    for _ in range(count):
        one = replace(keys, endorsement=ec.generate_private_key(ec.SECP384R1()))
        pki = SimulatedSnpPKI.create(CREATED, EndorsedPlatform.of(MILAN), keys=one)
        certificates = pki.certificates(ISSUED)
        first, fresh = (
            Evidence(
                tee=Tee.SIMULATED,
                simulates=Technology.SEV_SNP,
                quote=render_report(
                    pki, guest_report(pki, measurement=_MEASUREMENT, report_data=report_data)
                ),
                certificates=certificates,
            )
            for report_data in (FIRST, FRESH)
        )
        yield _sample(Technology.SEV_SNP, pki.root_der, _MEASUREMENT, first, fresh)


SAMPLES: dict[str, Callable[[int], Iterator[Sample]]] = {
    "sgx": sgx_samples,
    "tdx": tdx_samples,
    "tdx with events": logged_samples,
    "sev-snp": snp_samples,
}


def time_sample(sample: Sample) -> dict[str, float]:
    """Verify what `sample` has in every way, in turns; return microseconds."""
    root = sample.policy.accept[0].root or b""
    told = {}
    if sample.first.collateral is not None:
        choose_anchor(root, [root])
        told["dcap_qvl_us"] = _time(lambda: prove_alone(sample.first, root))
    cache = VerdictCache()
    told["cold_us"] = _time(lambda: verify(sample.first, FIRST, sample.policy, None))
    verify(sample.first, FIRST, sample.policy, cache)
    told["platform_us"] = _time(lambda: verify(sample.fresh, FRESH, sample.policy, cache))
    copies = [msgspec.json.decode(encode_evidence(sample.fresh), type=Evidence) for _ in range(10)]
    told["cached_us"] = statistics.median(
        _time(partial(verify, one, FRESH, sample.policy, cache)) for one in copies
    )
    return told


def prove_alone(evidence: Evidence, root: bytes) -> None:
    """Have dcap-qvl verify a quote, and nobody else."""
    assert evidence.collateral is not None
    collateral = QuoteCollateralV3(**msgspec.structs.asdict(evidence.collateral))
    verify_with_root_ca(evidence.quote, collateral, root, int(NOW.timestamp()))


def verify(
    evidence: Evidence, report_data: bytes, policy: AppraisalPolicy, cache: VerdictCache | None
) -> None:
    """Verify evidence, which must be accepted."""
    verify_evidence(evidence, policy, report_data=report_data, now=NOW, cache=cache)


def _time(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1e6


def measure_technology(name: str, count: int) -> dict[str, Any]:
    """Return the times of a technology, and how many verifications that is per second and core."""
    print(f"attestation: {name}", flush=True)
    rows = [time_sample(sample) for sample in SAMPLES[name](count + 3)][3:]
    found: dict[str, Any] = {key: summary([row[key] for row in rows], 1) for key in rows[0]}
    if "dcap_qvl_us" in found:
        ratios = [row["cold_us"] / row["dcap_qvl_us"] for row in rows]
        found["cold_to_dcap_qvl"] = summary(ratios)
    return found | {
        f"{state}_per_s": round(1e6 / found[f"{state}_us"]["median"])
        for state in ("cold", "platform", "cached")
    }


def measure_memory() -> dict[str, Any]:
    """Return the memory of a process that verifies all three kinds; see `attestation_memory.py`."""
    plan = []
    for samples in SAMPLES.values():
        (sample,) = samples(1)
        plan.append(
            {
                "evidence": encode_evidence(sample.first).decode(),
                "policy": encode_policy(sample.policy).decode(),
                "report_data": FIRST.hex(),
                "now": NOW.isoformat(),
            }
        )
    command = [sys.executable, "-m", "benchmarks.attestation_memory"]
    done = subprocess.run(command, input=json.dumps(plan), text=True, check=True, stdout=subprocess.PIPE)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def aims(found: dict[str, dict[str, Any]], memory: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each aim, and what was measured."""
    rows: list[tuple[str, str, float, float]] = []
    for name in ("sgx", "tdx"):
        ratio = found[name]["cold_to_dcap_qvl"]["median"]
        rows.append((f"{name}, cold", "times dcap-qvl alone", AIM_RATIO, ratio))
    rows.append(("sev-snp, cold", "µs", AIM_SNP_US, found["sev-snp"]["cold_us"]["median"]))
    rows += [(f"{name}, cached", "µs", AIM_CACHED_US, found[name]["cached_us"]["median"]) for name in SAMPLES]
    rows.append(("memory of a verifier of all three", "MB", AIM_MB, memory["verified"]["rss_mb"]))
    return [
        {"aim": f"verification: {aim}", "unit": unit, "below": below, "got": got, "is_met": got < below}
        for aim, unit, below, got in rows
    ]


def main() -> None:
    """Take the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it still run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    document = {"machine": machine.describe(), "is_quick": options.quick}
    machine.pin(1)
    found = {name: measure_technology(name, 3 if options.quick else 300) for name in SAMPLES}
    memory = measure_memory()
    document |= {"technologies": found, "memory": memory, "aims": aims(found, memory)}
    print(f"attestation: wrote {write(options.output, 'attestation', document)}", flush=True)


if __name__ == "__main__":
    main()
