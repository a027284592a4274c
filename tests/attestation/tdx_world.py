"""A simulated vendor, platform and trust domain, honest until a test replaces one piece."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import msgspec

from s3ml.attestation import Alternative, AppraisalPolicy, Evidence, RuntimeEvent, Technology, Tee
from s3ml.attestation.simulated.collateral import TcbState
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.tdx_event_log import encode_event_log, measured_event
from s3ml.attestation.simulated.tdx_quote import (
    TrustDomainReport,
    assemble_tdx_quote,
    encode_tdx_header,
    td_quoting_enclave,
)
from s3ml.attestation.verify.intel.event_log import LoggedEvent, replay
from tests.attestation.attestation_world import ISSUED, REPORT_DATA, World

MEASUREMENT = hashlib.sha384(b"the firmware").digest()
CONFIG_ID = hashlib.sha384(b"the configuration").digest()
EVENTS = (
    measured_event(0, b"variables of the firmware"),
    measured_event(0, b"tables of the firmware"),
    measured_event(1, b"the kernel"),
    measured_event(2, b"the kernel's command line"),
    measured_event(3, b"the container"),
)
REGISTERS = replay(EVENTS)
KERNEL = RuntimeEvent(register=1, digest=EVENTS[2].digest.hex())


def honest_domain(**changes: Any) -> TrustDomainReport:
    report = TrustDomainReport(
        measurement=MEASUREMENT, registers=REGISTERS, report_data=REPORT_DATA, config_id=CONFIG_ID
    )
    return replace(report, **changes)


@dataclass(frozen=True, kw_only=True)
class TdxWorld(World):
    """A world whose enclave is a trust domain; `version` is that of its quotes."""

    version: int = 4

    @classmethod
    def honest(cls, pki: SimulatedPKI) -> Self:
        alternative = Alternative(
            tee=Tee.SIMULATED,
            simulates=Technology.TDX,
            root=pki.root_der,
            measurements=(MEASUREMENT.hex(),),
        )
        return cls(
            pki=pki,
            quote=tdx_quoted(pki),
            collateral=pki.collateral(ISSUED, technology=Technology.TDX),
            event_log=encode_event_log(EVENTS),
            policy=AppraisalPolicy(accept=(alternative,)),
        )

    @property
    def evidence(self) -> Evidence:
        simulates = Technology.TDX if self.tee is Tee.SIMULATED else None
        return Evidence(
            tee=self.tee,
            simulates=simulates,
            quote=self.quote,
            collateral=self.collateral,
            event_log=self.event_log,
        )

    def with_(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def with_policy(self, **changes: Any) -> Self:
        """Change the policy's only alternative."""
        alternative = msgspec.structs.replace(self.policy.accept[0], **changes)
        return replace(self, policy=AppraisalPolicy(accept=(alternative,)))

    def with_version(self, version: int, **changes: Any) -> Self:
        """Have the platform quote in another version of the format."""
        return replace(self, version=version, quote=tdx_quoted(self.pki, version=version, **changes))

    def with_report_15(self, **changes: Any) -> Self:
        """Have the platform quote a report of version 1.5."""
        report: dict[str, Any] = {"service_td": bytes(48), "current_tcb_svn": honest_domain().tcb_svn}
        return self.with_version(5, **report | changes)

    def with_quote(self, **changes: Any) -> Self:
        """Have the platform quote something else (see `tdx_quoted`)."""
        return replace(self, quote=tdx_quoted(self.pki, version=self.version, **changes))

    def with_tcb(self, tcb: TcbState) -> Self:
        """Have the vendor say something else of the platform."""
        return replace(self, collateral=self.pki.collateral(ISSUED, tcb, technology=Technology.TDX))

    def with_pki(self, **changes: Any) -> Self:
        """Replace authorities of the vendor, and make everything afresh with them; the policy stays."""
        pki = replace(self.pki, **changes)
        collateral = pki.collateral(ISSUED, technology=Technology.TDX)
        return replace(self, pki=pki, quote=tdx_quoted(pki, version=self.version), collateral=collateral)

    def with_events(self, events: Iterable[LoggedEvent]) -> Self:
        """Have the firmware log other events; the registers stay."""
        return replace(self, event_log=encode_event_log(events))

    def with_policy_for_registers(self) -> Self:
        """Have the policy name every register, an event and the configuration, all as they are."""
        registers = {f"rtmr{number}": (register.hex(),) for number, register in enumerate(REGISTERS)}
        return self.with_policy(**registers, events=(KERNEL,), config_ids=(CONFIG_ID.hex(),))


def tdx_quoted(
    pki: SimulatedPKI,
    *,
    version: int = 4,
    header: bytes | None = None,
    quoting_enclave: dict[str, Any] | None = None,
    **report: Any,
) -> bytes:
    """Return a quote of the honest domain with `report` changed, by a quoting enclave changed likewise."""
    return assemble_tdx_quote(
        pki,
        header=header or encode_tdx_header(version=version),
        report=honest_domain(**report),
        quoting_enclave=replace(td_quoting_enclave(pki), **quoting_enclave or {}),
    )
