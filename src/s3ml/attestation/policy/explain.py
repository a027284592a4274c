"""What a policy accepts, in plain words for a person who is to sign it or to rely on it.

Everything that an alternative leaves open is said, with ANY or MAY in capitals. The same policy is always
explained in the same words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.alternative import Alternative, AppraisalPolicy, SnpTcb
from s3ml.attestation.policy.excess import name_event, name_root
from s3ml.primitives.units import DAY_S

HOUR_S = 3600
_TITLES = {
    Technology.SGX: "An enclave of Intel SGX",
    Technology.TDX: "A trust domain of Intel TDX",
    Technology.SEV_SNP: "A guest of AMD SEV-SNP",
}
_MEASURED = {
    Technology.SGX: "code measured (MRENCLAVE) as",
    Technology.TDX: "firmware measured (MRTD) as",
    Technology.SEV_SNP: "launch measured (firmware, and what it was told to check) as",
}
_REGISTERS = {
    "rtmr0": "firmware configuration (RTMR0)",
    "rtmr1": "boot loader and kernel (RTMR1)",
    "rtmr2": "command line and initial file system (RTMR2)",
    "rtmr3": "what the guest measured of itself (RTMR3)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one alternative accepts.

    Args:
        place: Its place in the policy, from 1.
        title: The kind of TEE.
        lines: Everything that is asked of it, and everything that is not.
    """

    place: int
    title: str
    lines: tuple[str, ...]


def explain_policy(policy: AppraisalPolicy) -> tuple[Explanation, ...]:
    """Say in plain words what `policy` accepts: each of these by itself is enough."""
    return tuple(
        Explanation(place=place, title=_title(one), lines=explain_alternative(one))
        for place, one in enumerate(policy.accept, start=1)
    )


def explain_in_lines(policy: AppraisalPolicy) -> list[str]:
    """Return `explain_policy` as lines for a terminal, numbered and indented."""
    lines = []
    for one in explain_policy(policy):
        lines.append(f"{one.place}. {one.title}:")
        lines += [f"   {line}" for line in one.lines]
    return lines


def explain_alternative(alternative: Alternative) -> tuple[str, ...]:
    """Say what one alternative asks, and what it leaves open."""
    root = [] if alternative.root is None else [f"under the simulation root {name_root(alternative.root)}"]
    parts = _PARTS[alternative.technology]
    return (*root, *(line for part in (_code, *parts, _age) for line in part(alternative)))


def _title(alternative: Alternative) -> str:
    title = _TITLES[alternative.technology]
    if not alternative.is_simulated:
        return title
    return f"SIMULATED, protects nothing: {title[0].lower()}{title[1:]}"


def _code(alternative: Alternative) -> list[str]:
    if alternative.measurements is not None:
        return _one_of(_MEASURED[alternative.technology], alternative.measurements)
    if alternative.technology is Technology.SEV_SNP:
        what = f"image {alternative.image_id} of family {alternative.family_id}"
    else:
        what = f"product {alternative.product_id}"
    return [f"ANY code that {alternative.signer} signed as {what}, version {alternative.min_svn} or later"]


def _domain(alternative: Alternative) -> list[str]:
    lines = []
    for name, what in _REGISTERS.items():
        lines += _one_of(what, getattr(alternative, name), "ANY")
    lines += [f"with the measured event {name_event(event)}" for event in alternative.events]
    return [*lines, *_one_of("configuration (MRCONFIGID)", alternative.config_ids, "ANY")]


def _guest(alternative: Alternative) -> list[str]:
    author = () if alternative.author is None else (alternative.author,)
    smt = (
        "MAY share its cores with others (SMT)"
        if alternative.allow_smt
        else "shares no core with others (no SMT)"
    )
    agent = "MAY have a migration agent" if alternative.allow_migration_agent else "no migration agent"
    below = f"VMPL {alternative.max_vmpl} or more privileged" if alternative.max_vmpl else "VMPL 0"
    return [
        *_one_of("signer vouched for by author", author),
        *_one_of("host data", alternative.host_data, "ANY"),
        smt,
        agent,
        f"report asked for by software at {below}",
    ]


def _intel_platform(alternative: Alternative) -> list[str]:
    number = alternative.min_tcb_evaluation_data_number
    floors = (
        ("quoting enclave", alternative.min_qe_svn),
        ("provisioning certification enclave", alternative.min_pce_svn),
    )
    return [
        f"platform with TCB status {' or '.join(alternative.tcb_statuses)}",
        *([f"despite advisory {advisory}" for advisory in alternative.advisories] or ["no open advisory"]),
        f"judged by TCB recovery {number} (tcbEvaluationDataNumber) or later"
        if number
        else "judged by ANY TCB recovery whose documents are not expired",
        *(f"{enclave} of version {least} or later" for enclave, least in floors if least),
    ]


def _amd_platform(alternative: Alternative) -> list[str]:
    least = msgspec.structs.asdict(alternative.min_tcb)
    versions = ", ".join(f"{name} {version}" for name, version in least.items() if version)
    is_open = alternative.min_tcb == SnpTcb()
    products, keys = " or ".join(alternative.products), " or ".join(alternative.endorsement_keys)
    return [
        f"processor {products}, endorsed by {keys}",
        *_one_of("chip", alternative.chip_ids, "ANY"),
        "ANY firmware and microcode" if is_open else f"firmware and microcode of at least {versions}",
        "revocation list of AMD's at hand"
        if alternative.require_crl
        else "revocation list of AMD's MAY be missing",
    ]


def _age(alternative: Alternative) -> list[str]:
    lines = [f"collateral at most {_duration(alternative.max_collateral_age_s)} old"]
    if alternative.warn_collateral_age_s is not None:
        lines.append(f"with a note from {_duration(alternative.warn_collateral_age_s)} on")
    return lines


def _one_of(what: str, values: tuple[str, ...] | None, otherwise: str = "") -> list[str]:
    """Return one line for one value, a line each for several, and what holds `otherwise`."""
    if not values:
        return [f"{what}: {otherwise}"] if otherwise else []
    if len(values) == 1:
        return [f"{what} {values[0]}"]
    return [f"{what} one of", *(f"  {value}" for value in values)]


def _duration(seconds: int) -> str:
    for unit_s, unit in ((DAY_S, "day"), (HOUR_S, "hour")):
        if seconds % unit_s == 0:
            count = seconds // unit_s
            return f"{count} {unit}" + ("s" if count > 1 else "")
    return f"{seconds} s"


_PARTS: Mapping[Technology, tuple[Callable[[Alternative], list[str]], ...]] = MappingProxyType(
    {
        Technology.SGX: (_intel_platform,),
        Technology.TDX: (_domain, _intel_platform),
        Technology.SEV_SNP: (_guest, _amd_platform),
    }
)
