"""TDX trust domains: what their quotes say, the state that production has, and the event log.

A domain that can be migrated is never accepted: dcap-qvl 0.7 refuses it whatever its caller wants, and so
does this module, in words of its own.

Source: Intel TDX Module ABI specification (ATTRIBUTES, XFAM, TDINFO); Intel TDX DCAP Quoting Library API,
appendix A.3; the package dcap-qvl, version 0.7.
"""

from collections.abc import Sequence
from datetime import datetime

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Evidence
from s3ml.attestation.policy import RuntimeEvent
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.claims import IntelTcb, TdxClaims
from s3ml.attestation.verify.comparison import mismatch_unless
from s3ml.attestation.verify.intel.dcap import Body, examine_quote
from s3ml.attestation.verify.intel.event_log import LoggedEvent, parse_event_log, replay
from s3ml.attestation.verify.intel.quote import HEADER_BYTES, HEADER_FIELDS_BYTES
from s3ml.attestation.verify.intel.tdx_quote import BODY_HEADER_BYTES, QUOTE_VERSION_5, parse_tdx_quote
from s3ml.attestation.verify.intel.tdx_report import (
    FLAG_KEY_LOCKER,
    FLAG_LASS,
    FLAG_PERFMON,
    FLAG_PKS,
    FLAG_SEPT_VE_DISABLE,
    REPORT_10_BYTES,
    XFAM_KNOWN,
    XFAM_REQUIRED,
    TdReport,
)
from s3ml.attestation.verify.result import Examination

FLAGS_REQUIRED = FLAG_SEPT_VE_DISABLE
# What a domain may use inside itself, and what makes it safer: neither lets anybody else look in.
FLAGS_TOLERATED = FLAG_LASS | FLAG_PKS | FLAG_KEY_LOCKER | FLAG_PERFMON
DOCUMENTS = ("TDX", "TD_QE")


def examine_tdx(
    evidence: Evidence, simulated: Sequence[bytes] | None, *, now: datetime, cache: VerdictCache | None = None
) -> Examination:
    """Check everything about a trust domain's evidence that no policy changes.

    Whether the event log replays to the quote's registers is said in the claims; it decides where a policy
    depends on registers or events.

    Args:
        evidence: From an untrusted peer.
        simulated: The simulation roots that the caller's policy names, DER; None for Intel's root.
        now: Aware UTC.
        cache: What was proved before.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    quote = parse_tdx_quote(evidence.quote)
    certification = quote.certification

    def read_body() -> Body:
        return _body(quote.domain, evidence.event_log)

    return examine_quote(
        evidence,
        certification,
        read_body,
        decisive=_decisive,
        simulated=simulated,
        now=now,
        cache=cache,
    )


def _decisive(signed: bytes) -> bytes:
    """Return header and report without what only the domain says: user data, identity, report data."""
    start = HEADER_BYTES + (BODY_HEADER_BYTES if signed[0] == QUOTE_VERSION_5 else 0)
    report = signed[start:]
    return b"".join(
        (signed[:HEADER_FIELDS_BYTES], signed[HEADER_BYTES:start], report[:136], report[REPORT_10_BYTES:])
    )


def _body(domain: TdReport, event_log: bytes | None) -> Body:
    log = None if event_log is None else parse_event_log(event_log)

    def claims(tcb: IntelTcb) -> TdxClaims:
        return _claims(domain, log, tcb)

    return Body(
        documents=DOCUMENTS,
        report_data=domain.report_data,
        mismatches=(*_check_attributes(domain), *_check_module(domain), *_check_service_td(domain)),
        claims=claims,
    )


def _claims(domain: TdReport, log: tuple[LoggedEvent, ...] | None, tcb: IntelTcb) -> TdxClaims:
    registers = _hexadecimal(domain.registers)
    replayed = None if log is None else _hexadecimal(replay(log))
    return TdxClaims(
        measurement=domain.measurement.hex(),
        registers=registers,
        replayed=replayed,
        events=_events(log) if log is not None and replayed == registers else None,
        config_id=domain.config_id.hex(),
        owner=domain.owner.hex(),
        owner_config=domain.owner_config.hex(),
        flags=domain.flags,
        tcb=tcb,
    )


def _events(log: tuple[LoggedEvent, ...]) -> tuple[RuntimeEvent, ...]:
    return tuple(
        RuntimeEvent(register=event.register, digest=event.digest.hex())
        for event in log
        if event.register is not None
    )


def _hexadecimal(registers: tuple[bytes, bytes, bytes, bytes]) -> tuple[str, str, str, str]:
    first, second, third, fourth = (register.hex() for register in registers)
    return first, second, third, fourth


def _check_attributes(domain: TdReport) -> list[Mismatch]:
    flags, xfam = domain.flags, domain.xfam
    has_flags = flags & FLAGS_REQUIRED == FLAGS_REQUIRED and not flags & ~(FLAGS_REQUIRED | FLAGS_TOLERATED)
    has_xfam = xfam & XFAM_REQUIRED == XFAM_REQUIRED and not xfam & ~XFAM_KNOWN
    return [
        *mismatch_unless(
            holds=has_flags,
            claim="attributes",
            expected="SEPT_VE_DISABLE, no DEBUG, profiling, MIGRATABLE or reserved bit",
            got=f"{flags:#018x}",
        ),
        *mismatch_unless(
            holds=has_xfam,
            claim="attributes",
            expected="XFAM with x87 and SSE, no reserved bit",
            got=f"XFAM {xfam:#018x}",
        ),
    ]


def _check_module(domain: TdReport) -> list[Mismatch]:
    return [
        *mismatch_unless(
            holds=not any(domain.module_signer),
            claim="tdx_module",
            expected="a TDX module of Intel's own: MRSIGNERSEAM zero",
            got=domain.module_signer.hex(),
        ),
        *mismatch_unless(
            holds=domain.module_flags == 0,
            claim="tdx_module",
            expected="a TDX module in production: SEAMATTRIBUTES zero",
            got=f"{domain.module_flags:#018x}",
        ),
    ]


def _check_service_td(domain: TdReport) -> list[Mismatch]:
    bound = domain.service_td or b""
    return mismatch_unless(
        holds=not any(bound),
        claim="service_td",
        expected="no service domain bound: MRSERVICETD zero",
        got=bound.hex(),
    )
