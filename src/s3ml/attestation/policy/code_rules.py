"""Rules about the code that a policy names: what it leaves open, and what never holds.

Source: Intel, TDX Virtual Firmware Design Guide (what MRTD and RTMR0 to RTMR3 hold); AMD, SEV-SNP firmware
ABI (56860), on attestation reports (a guest without an ID block has zeros in its place).
"""

from collections.abc import Iterator
from typing import Final

from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.alternative import Alternative
from s3ml.attestation.policy.findings import Rule, Severity
from s3ml.attestation.policy.parts import WITHOUT_FMC

_KERNEL, _SOFTWARE = 1, 2


def _names(alternative: Alternative, register: int) -> bool:
    """Tell whether a register is held to anything."""
    is_valued = getattr(alternative, f"rtmr{register}") is not None
    return is_valued or any(event.register == register for event in alternative.events)


def _is_nothing(digest: str | None) -> bool:
    return digest is not None and not digest.strip("0")


def _open_guest(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.technology is not Technology.TDX:
        return
    if not _names(alternative, _KERNEL) and not _names(alternative, _SOFTWARE):
        yield (
            "rtmr1",
            "accepts any guest kernel and software: the measurement (MRTD) covers the firmware alone",
        )


def _half_open_guest(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.technology is not Technology.TDX:
        return
    named = [register for register in (_KERNEL, _SOFTWARE) if _names(alternative, register)]
    if named == [_KERNEL]:
        yield "rtmr2", "accepts any kernel command line and initial file system: nothing holds RTMR2"
    elif named == [_SOFTWARE]:
        yield "rtmr1", "accepts any boot loader or kernel image: nothing holds RTMR1"


def _open_firmware(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.technology is Technology.TDX and not _names(alternative, 0):
        yield "rtmr0", "accepts any ACPI tables and firmware configuration from the host: nothing holds RTMR0"


def _unmeasured_guest(alternative: Alternative) -> Iterator[tuple[str, str]]:
    for register in (_KERNEL, _SOFTWARE):
        if any(_is_nothing(value) for value in getattr(alternative, f"rtmr{register}") or ()):
            yield (
                f"rtmr{register}",
                f"accepts a guest that measured nothing into RTMR{register}: zeros are its value at launch",
            )


def _nothing_as_code(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if any(_is_nothing(measurement) for measurement in alternative.measurements or ()):
        yield "measurements", "names zeros as a measurement, which no code has"
    if _is_nothing(alternative.signer):
        is_snp = alternative.technology is Technology.SEV_SNP
        whose = "every guest without an ID block has, whatever its code" if is_snp else "no key has"
        yield "signer", f"names zeros as the signer, which {whose}"
    if _is_nothing(alternative.author):
        yield "author", "names zeros as the author, which every guest without an author key has"


def _every_version(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.min_svn == 0:
        yield "min_svn", "accepts every version that the signer ever signed, those with known holes too"


def _never(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.min_tcb.fmc and WITHOUT_FMC.issuperset(alternative.products):
        lines = " and ".join(alternative.products)
        yield (
            "min_tcb",
            f"accepts nothing: {lines} have no FMC, so its version never reaches {alternative.min_tcb.fmc}",
        )
    for event in alternative.events:
        values = getattr(alternative, f"rtmr{event.register}")
        if values and all(_is_nothing(value) for value in values):
            yield "events", f"accepts nothing: RTMR{event.register} is to be zeros and to hold an event"


def _partly_never(alternative: Alternative) -> Iterator[tuple[str, str]]:
    without = [product for product in alternative.products if product in WITHOUT_FMC]
    if alternative.min_tcb.fmc and without and len(without) < len(alternative.products):
        yield (
            "min_tcb",
            f"never accepts {' and '.join(without)}, which have no FMC: only Turin reaches a floor for it",
        )


CODE_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        number="P01",
        severity=Severity.ERROR,
        remedy="name rtmr1 and rtmr2, or events in them",
        check=_open_guest,
    ),
    Rule(
        number="P02",
        severity=Severity.WARNING,
        remedy="name both rtmr1 and rtmr2, or events in them",
        check=_half_open_guest,
    ),
    Rule(
        number="P03",
        severity=Severity.WARNING,
        remedy="name rtmr0, or make sure that the firmware trusts none of what the host configures",
        check=_open_firmware,
    ),
    Rule(
        number="P04",
        severity=Severity.ERROR,
        remedy="remove the zeros, and name what the guest measures",
        check=_unmeasured_guest,
    ),
    Rule(
        number="P05",
        severity=Severity.ERROR,
        remedy="name the digest of the real code or key",
        check=_nothing_as_code,
    ),
    Rule(
        number="P06",
        severity=Severity.WARNING,
        remedy="set min_svn to the first version without known holes, and raise it with each new one",
        check=_every_version,
    ),
    Rule(
        number="P07",
        severity=Severity.ERROR,
        remedy="correct the fields that contradict each other, or remove the alternative",
        check=_never,
    ),
    Rule(
        number="P08",
        severity=Severity.WARNING,
        remedy="give Turin an alternative of its own",
        check=_partly_never,
    ),
)
