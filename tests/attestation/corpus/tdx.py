"""Lies about TDX trust domains."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from s3ml.attestation.evidence import EVENT_LOG_LIMIT_BYTES
from s3ml.attestation.simulated.tdx_event_log import encode_event, encode_event_log, measured_event
from s3ml.attestation.verify.intel.event_log import EV_NO_ACTION, LoggedEvent, replay
from s3ml.attestation.verify.intel.tdx_report import (
    FLAG_DEBUG,
    FLAG_MIGRATABLE,
    FLAG_SEPT_VE_DISABLE,
)
from tests.attestation.attestation_world import ISSUED, World
from tests.attestation.corpus.intel_edits import (
    both,
    edited,
    policy,
    qe,
    qe_identity,
    quoted,
    reissued_pck,
    tcb,
    tcb_info,
)
from tests.attestation.corpus.intel_layout import patch
from tests.attestation.corpus.lie import Lie, Tell, Told, malformed, rejected, unproven
from tests.attestation.tdx_world import CONFIG_ID, EVENTS, KERNEL, REGISTERS, TdxWorld

KERNEL_EVENT = EVENTS[2]
BODY = 48


def flags(bits: int) -> Tell:
    """Launch the domain with other attributes besides the one that is required."""
    return quoted(flags=FLAG_SEPT_VE_DISABLE | bits)


def measured(events: Iterable[LoggedEvent]) -> Tell:
    """Have the domain measure something else, and log it as it is."""
    measured_events = tuple(events)
    return lambda world: world.with_quote(registers=replay(measured_events)).with_events(measured_events)


def logged(events: Iterable[LoggedEvent]) -> Tell:
    """Have the log say something else than what the domain measured."""
    return lambda world: world.with_events(events)


def log(data: bytes) -> Tell:
    return lambda world: world.with_(event_log=data)


def for_registers(world: TdxWorld) -> TdxWorld:
    """Have the policy name every register, an event and the configuration."""
    return world.with_policy_for_registers()


def without_log(world: World) -> World:
    return world.with_(event_log=None)


def report_15(**changes: Any) -> Tell:
    return lambda world: world.with_report_15(**changes)


def allowed_module(world: TdxWorld) -> Told:
    """Have Intel's TCB info allow a module of another signer, which the quote then has."""
    other = b"\x11" * 48
    return edited(
        "tcb_info",
        lambda d: (
            d["tdxModule"].update(mrsigner=other.hex()),
            d["tdxModuleIdentities"][0].update(mrsigner=other.hex()),
        ),
    )(world.with_quote(module_signer=other))


def allowed_debug_module(world: TdxWorld) -> Told:
    return edited("tcb_info", lambda d: d["tdxModuleIdentities"][0].update(attributes="0100000000000000"))(
        world.with_quote(module_flags=1)
    )


def older_levels(component: str, **fields: Any) -> Tell:
    """Have Intel know an older level of `component` too, as good as the current one."""

    def edit(document: dict[str, Any]) -> None:
        (current,) = document["tcbLevels"]
        document["tcbLevels"].append({**current, "tcb": {**current["tcb"], **fields}})

    return edited(component, edit)


OLDER_QE = older_levels("qe_identity", isvsvn=3)
OLDER_PCE = older_levels("tcb_info", pcesvn=12)

MODE: tuple[Lie, ...] = (
    unproven("debug", flags(FLAG_DEBUG), "attributes"),
    unproven("profiling", flags(1 << 4), "attributes"),
    unproven("reserved-attribute-7", flags(1 << 7), "attributes"),
    rejected("reserved-attribute-16", flags(1 << 16), "attributes"),
    unproven("extended-service-domains", flags(1 << 17), "attributes"),
    rejected("reserved-attribute-18", flags(1 << 18), "attributes"),
    rejected("reserved-attribute-22", flags(1 << 22), "attributes"),
    rejected("reserved-attribute-62", flags(1 << 62), "attributes"),
    unproven("exceptions-on-pending-pages", quoted(flags=0), "attributes"),
    unproven("migratable", flags(FLAG_MIGRATABLE), "attributes"),
    rejected("xfam-without-sse", quoted(xfam=0x1), "attributes"),
    rejected("xfam-with-a-reserved-bit", quoted(xfam=0x602E7 | 1 << 3), "attributes"),
    rejected("xfam-with-an-unknown-bit", quoted(xfam=0x602E7 | 1 << 63), "attributes"),
    unproven("service-domain-bound", report_15(service_td=b"\x01" * 48), "service_td", given=report_15()),
)

MODULE: tuple[Lie, ...] = (
    unproven("module-of-another-signer", quoted(module_signer=b"\x01" * 48), "tdx_module"),
    unproven("module-in-debug-mode", quoted(module_flags=1), "tdx_module"),
    rejected("module-of-another-signer-that-is-allowed", allowed_module, "tdx_module"),
    rejected("module-in-debug-mode-that-is-allowed", allowed_debug_module, "tdx_module"),
    unproven("tcb-info-without-a-module", edited("tcb_info", lambda d: d.pop("tdxModule")), "tdx_module"),
    unproven(
        "module-of-an-unknown-major-version", quoted(tcb_svn=bytes((5, 9, 2, *bytes(13)))), "tcb_status"
    ),
    unproven("module-rolled-back", quoted(tcb_svn=bytes((4, 1, 2, *bytes(13)))), "tcb_status"),
    unproven("microcode-rolled-back", quoted(tcb_svn=bytes((5, 1, 1, *bytes(13)))), "tcb_status"),
    unproven(
        "current-module-rolled-back",
        report_15(current_tcb_svn=bytes(16)),
        "tcb_status",
        given=report_15(),
    ),
    rejected("module-out-of-date", tcb(module_status="OutOfDate"), "tcb_status"),
    unproven("module-revoked", tcb(module_status="Revoked"), "tcb_status"),
    rejected("open-advisory-on-the-module", tcb(module_advisories=("INTEL-SA-00001",)), "advisories"),
)

VENDOR: tuple[Lie, ...] = (
    unproven("tcb-info-of-version-2", tcb_info(version=2), "tcb_info"),
    rejected("qe-identity-of-version-3", qe_identity(version=3), "qe_identity"),
    unproven("tcb-info-of-sgx", tcb_info(id="SGX"), "tcb_info"),
    unproven("qe-identity-of-sgx", qe_identity(id="QE"), "qe_identity"),
    unproven(
        "collateral-of-sgx",
        lambda w: w.with_(collateral=w.pki.collateral(ISSUED)),
        "tcb_info",
        "qe_identity",
    ),
    unproven(
        "tcb-info-of-an-unknown-status",
        edited("tcb_info", lambda d: d["tcbLevels"][0].update(tcbStatus="Splendid")),
        "tcb_info",
    ),
    unproven("quoting-enclave-of-sgx", qe(product_id=1), "qe_identity"),
    unproven(
        "tcb-info-without-components",
        edited("tcb_info", lambda d: d["tcbLevels"][0]["tcb"].pop("tdxtcbcomponents")),
        "tcb_info",
    ),
    rejected("older-quoting-enclave", qe(svn=3), "qe_svn", given=both(OLDER_QE, policy(min_qe_svn=4))),
    rejected(
        "older-certification-enclave",
        reissued_pck(pce_svn=12),
        "pce_svn",
        given=both(OLDER_PCE, policy(min_pce_svn=13)),
    ),
)

CODE: tuple[Lie, ...] = (
    rejected("other-firmware", quoted(measurement=bytes(48)), "measurement"),
    *(
        rejected(
            f"register-{number}-extended",
            measured([*EVENTS, measured_event(number, b"something else")]),
            f"rtmr{number}",
            given=for_registers,
        )
        for number in range(4)
    ),
    rejected(
        "event-missing",
        measured([event for event in EVENTS if event is not KERNEL_EVENT]),
        "events",
        given=policy(events=(KERNEL,)),
    ),
    rejected(
        "event-in-another-register",
        measured([replace(event, index=3) if event is KERNEL_EVENT else event for event in EVENTS]),
        "events",
        given=policy(events=(KERNEL,)),
    ),
    rejected(
        "event-that-extended-nothing",
        measured([replace(event, kind=EV_NO_ACTION) if event is KERNEL_EVENT else event for event in EVENTS]),
        "events",
        given=policy(events=(KERNEL,)),
    ),
    rejected(
        "other-configuration",
        quoted(config_id=bytes(48)),
        "config_id",
        given=policy(config_ids=(CONFIG_ID.hex(),)),
    ),
)

REPLAY: tuple[Lie, ...] = (
    rejected("log-missing", without_log, "event_log", given=for_registers),
    rejected(
        "log-missing-with-a-register", without_log, "event_log", given=policy(rtmr3=(REGISTERS[3].hex(),))
    ),
    rejected("log-missing-with-an-event", without_log, "event_log", given=policy(events=(KERNEL,))),
    rejected("log-without-its-last-event", logged(EVENTS[:-1]), "event_log", given=for_registers),
    rejected(
        "log-with-an-event-more",
        logged([*EVENTS, measured_event(2, b"more")]),
        "event_log",
        given=for_registers,
    ),
    rejected(
        "log-in-another-order",
        logged([EVENTS[1], EVENTS[0], *EVENTS[2:]]),
        "event_log",
        given=for_registers,
    ),
    rejected(
        "log-with-another-digest",
        logged([replace(EVENTS[0], digest=b"\x01" * 48), *EVENTS[1:]]),
        "event_log",
        given=policy(events=(KERNEL,)),
    ),
    rejected(
        "log-that-breaks-in-a-register-nobody-names",
        logged(EVENTS[:-1]),
        "event_log",
        given=policy(rtmr0=(REGISTERS[0].hex(),)),
    ),
    rejected(
        "log-of-another-domain",
        quoted(registers=(*REGISTERS[:3], b"\x01" * 48)),
        "event_log",
        given=policy(rtmr0=(REGISTERS[0].hex(),)),
    ),
)

HONEST_LOG = encode_event_log(EVENTS)
HEAD_BYTES = len(encode_event_log(()))

LAYOUT: tuple[Lie, ...] = (
    malformed("quote-of-sgx-in-its-place", quoted(header=bytes(48))),
    malformed("reserved-bytes-of-the-header", lambda w: w.with_(quote=patch(w.quote, 8, b"\x01"))),
    malformed("outer-certification-of-another-kind", lambda w: w.with_(quote=patch(w.quote, 764, b"\x05"))),
    malformed("outer-certification-too-long", lambda w: w.with_(quote=patch(w.quote, 766, b"\xff\xff"))),
    malformed(
        "body-of-another-kind", lambda w: w.with_(quote=patch(w.quote, BODY, b"\x04")), given=report_15()
    ),
    malformed(
        "body-of-another-length",
        lambda w: w.with_(quote=patch(w.quote, BODY + 2, b"\x00")),
        given=report_15(),
    ),
    malformed(
        "report-15-called-10", lambda w: w.with_(quote=patch(w.quote, BODY, b"\x02")), given=report_15()
    ),
    malformed("log-that-is-no-log", log(b"log")),
    malformed("log-cut", log(HONEST_LOG[:-1])),
    malformed("log-with-a-byte-behind", log(HONEST_LOG + b"\x00")),
    malformed("log-with-its-padding", log(HONEST_LOG + b"\xff" * 66)),
    malformed("log-without-a-head", log(HONEST_LOG[HEAD_BYTES:])),
    malformed("log-of-sha256", log(patch(HONEST_LOG, 32 + 28, b"\x0b"))),
    malformed("log-of-two-algorithms", log(patch(HONEST_LOG, 32 + 24, b"\x02"))),
    malformed("log-with-two-digests", log(patch(HONEST_LOG, HEAD_BYTES + 8, b"\x02"))),
    malformed("log-of-a-fifth-register", log(patch(HONEST_LOG, HEAD_BYTES, b"\x05"))),
    malformed("log-with-a-huge-event", log(patch(HONEST_LOG, HEAD_BYTES + 62, b"\xff" * 4))),
    malformed(
        "log-too-large",
        log(HONEST_LOG + encode_event(measured_event(0, bytes(EVENT_LOG_LIMIT_BYTES)))),
    ),
)

LIES: tuple[Lie, ...] = (*MODE, *MODULE, *VENDOR, *CODE, *REPLAY, *LAYOUT)
