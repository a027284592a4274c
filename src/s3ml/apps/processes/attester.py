"""Which TEE a process runs in: found where that kind of TEE always shows itself, never said by the host.

A wrong finding can only make evidence fail, because a quote says itself what made it. The sealing key is
another matter: whoever says where the TEE is found can put a key there that he knows. So the places are
constants of the measured code, and parameters of `find_attester` for its tests alone.

1. Gramine always shows ``/dev/attestation``, with all of its files in an SGX enclave alone; our manifests let
   nobody else put anything there.
2. A simulated platform is what a setting names. Images for real TEEs leave the simulation out.
3. A guest of TDX or SEV-SNP has configfs-tsm, whose provider says which of the two.

Source: docs/spec/attesters.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from s3ml.attestation.generate import (
    Attester,
    CollateralSource,
    Directory,
    GramineAttester,
    SnpAttester,
    TdxAttester,
)
from s3ml.attestation.generate.tsm import Provider, find_provider
from s3ml.primitives.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where each kind of TEE shows itself.

    Args:
        gramine: The folder of Gramine's pseudo-files.
        reports: The folder of configfs-tsm's entries.
        event_log: The data of ACPI's CCEL table.
    """

    gramine: Directory
    reports: Directory
    event_log: Directory


PLACES: Final = Places(
    gramine=Path("/dev/attestation"),
    reports=Path("/sys/kernel/config/tsm/report"),
    event_log=Path("/sys/firmware/acpi/tables/data/CCEL"),
)


class AttesterSettings(Protocol):
    """The host's settings that an attester needs: addresses of collateral, which is signed, and a socket."""

    @property
    def simulated_platform(self) -> str | None:
        """The socket of a simulated platform."""
        ...

    @property
    def pccs_urls(self) -> tuple[str, ...]:
        """Caches of Intel's collateral."""
        ...

    @property
    def pcs_urls(self) -> tuple[str, ...]:
        """Intel's own service, or relays of it."""
        ...

    @property
    def kds_urls(self) -> tuple[str, ...]:
        """AMD's service, or relays of it."""
        ...


def find_attester(settings: AttesterSettings, places: Places = PLACES) -> Attester:
    """Return the TEE that this process runs in.

    Args:
        settings: The host's.
        places: Where to look.

    Raises:
        ConfigurationError: there is none; or it is one that cannot attest; or a simulated one is named under
            Gramine, or to an image that has no simulation.
    """
    if places.gramine.exists():  # (1)
        if settings.simulated_platform is not None:
            raise ConfigurationError(
                "expected no S3ML_SIMULATED_PLATFORM under Gramine, which has a TEE of its own or none"
            )
        return GramineAttester(places.gramine, find_collateral(settings))
    if settings.simulated_platform is not None:  # (2)
        return _simulated(settings.simulated_platform)
    if places.reports.exists():  # (3)
        collateral = find_collateral(settings)
        if find_provider(places.reports) is Provider.TDX:
            return TdxAttester(places.reports, places.event_log, collateral)
        return SnpAttester(places.reports, collateral)
    raise ConfigurationError(
        "no TEE found: expected an SGX enclave under Gramine, configfs-tsm in a guest of TDX or SEV-SNP, or "
        "S3ML_SIMULATED_PLATFORM to name the socket of a simulated platform"
    )


def find_collateral(settings: AttesterSettings) -> CollateralSource:
    """Return a client of the services that the host names, or of the vendors' own; it keeps all in memory.

    Raises:
        ConfigurationError: an address cannot be asked.
    """
    # What a simulated platform needs none of is not loaded for it.
    from s3ml.attestation.collateral.amd import AmdService  # noqa: PLC0415
    from s3ml.attestation.collateral.client import CollateralClient  # noqa: PLC0415
    from s3ml.attestation.collateral.endpoints import AMD_KDS_URL, INTEL_PCS_URL, pccs, pcs  # noqa: PLC0415
    from s3ml.attestation.collateral.intel import IntelService  # noqa: PLC0415

    caches = [pccs(url) for url in settings.pccs_urls]
    services = [pcs(url) for url in settings.pcs_urls or (INTEL_PCS_URL,)]
    return CollateralClient(
        intel=IntelService(endpoints=(*caches, *services)),
        amd=AmdService(endpoints=settings.kds_urls or (AMD_KDS_URL,)),
    )


def _simulated(socket_path: str) -> Attester:
    try:
        from s3ml.attestation.simulated.attester import SimulatedAttester  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "S3ML_SIMULATED_PLATFORM is set, but this image leaves the simulated platform out: "
            "run it on a real TEE, or use an image with the simulation"
        ) from error
    return SimulatedAttester(socket_path)
