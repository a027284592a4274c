"""A simulated vendor behind local services, a clock that tests set, and a client between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from s3ml.attestation.collateral import (
    CollateralClient,
    Freshness,
    IntelService,
    Transport,
    pccs,
    pcs,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from tests.attestation.attestation_world import NOW
from tests.attestation.fakes.provisioning import ROOT_CRL_PATH, ProvisioningServer

FMSPC = "53334D4C0000"
FRESHNESS = Freshness(refresh_after_s=3600, max_age_s=10 * 86400)


@dataclass
class SetClock:
    """A clock that stands still until a test moves it."""

    instant: datetime = NOW
    elapsed_s: float = 0.0

    def now(self) -> datetime:
        return self.instant

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.instant += timedelta(seconds=seconds)
        self.elapsed_s += seconds


@dataclass(kw_only=True)
class Client:
    """A client with all that it was given."""

    client: CollateralClient
    clock: SetClock
    transport: Transport


@contextmanager
def intel_client(
    pki: SimulatedPKI,
    *servers: ProvisioningServer,
    is_pccs: bool = False,
    clock: SetClock | None = None,
    folder: Path | None = None,
    deadline_s: float = 5.0,
    **service: Any,
) -> Iterator[Client]:
    """Give a client of `servers`, in this order, that pins the simulated root."""
    clock = clock or SetClock()
    transport = Transport(clock=clock, deadline_s=deadline_s)
    endpoints = tuple(
        pccs(one.url) if is_pccs else pcs(one.url, root_crl_url=one.url + ROOT_CRL_PATH) for one in servers
    )
    intel = IntelService(endpoints=endpoints, root=pki.root_der, **service)
    client = CollateralClient(
        intel=intel, freshness=FRESHNESS, folder=folder, transport=transport, clock=clock
    )
    with client:
        yield Client(client=client, clock=clock, transport=transport)
