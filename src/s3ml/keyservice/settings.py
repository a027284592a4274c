"""The host's settings of a key-service process: where it listens, where it stores, whom it asks for quotes.

An allow-list. No trust decision depends on any of them: an address, a file and a socket that serve wrongly
lead to no service, never to a wrong one. Where a real TEE is found is no setting (docs/spec/attesters.md).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from s3ml.attestation.generate.collateral import parse_addresses
from s3ml.primitives.errors import ConfigurationError

PREFIX = "S3ML_"
REQUIRED = ("S3ML_LISTEN", "S3ML_DATABASE")
KNOWN = (
    *REQUIRED,
    "S3ML_KDS_URL",
    "S3ML_PCCS_URL",
    "S3ML_PCS_URL",
    "S3ML_PEERS",
    "S3ML_SIMULATED_PLATFORM",
    "S3ML_WITNESSES",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the host decides.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 lets the system choose.
        database: What keeps the log: the path of a file whose folder exists, or the URL of a PostgreSQL
            database (docs/spec/storage.md). It may hold a password, and no `repr` shows it.
        simulated_platform: The socket of the simulated platform, where this process runs on one.
        pccs_urls: Caches of Intel's collateral, asked before Intel's own service.
        pcs_urls: Intel's own service, or relays of it; none means Intel's.
        kds_urls: AMD's service, or relays of it; none means AMD's.
        peers: Where other replicas listen, each up to before ``/v1``.
        witnesses: Where witnesses take checkpoints, each up to before ``/add-checkpoint``.
    """

    host: str
    port: int
    database: str = field(repr=False)
    simulated_platform: str | None = None
    pccs_urls: tuple[str, ...] = ()
    pcs_urls: tuple[str, ...] = ()
    kds_urls: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()


def parse_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the ``S3ML_*`` variables of an environment.

    Raises:
        ConfigurationError: a variable is unknown, missing or malformed; all unknown and all missing ones are
            named at once.
    """
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if unknown := sorted(given.keys() - set(KNOWN)):
        raise ConfigurationError(f"settings: unknown: {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    if missing := [name for name in REQUIRED if not given.get(name)]:
        raise ConfigurationError(f"settings: missing: {', '.join(missing)}")
    listen = given["S3ML_LISTEN"]
    host, separator, port = listen.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and int(port[:6]) < 2**16):
        raise ConfigurationError(f"S3ML_LISTEN: expected host:port, got {listen[:80]!r}")
    return Settings(
        host=host.removeprefix("[").removesuffix("]"),
        port=int(port),
        database=given["S3ML_DATABASE"],
        simulated_platform=given.get("S3ML_SIMULATED_PLATFORM") or None,
        pccs_urls=parse_addresses("S3ML_PCCS_URL", given.get("S3ML_PCCS_URL", "")),
        pcs_urls=parse_addresses("S3ML_PCS_URL", given.get("S3ML_PCS_URL", "")),
        kds_urls=parse_addresses("S3ML_KDS_URL", given.get("S3ML_KDS_URL", "")),
        peers=parse_addresses("S3ML_PEERS", given.get("S3ML_PEERS", "")),
        witnesses=parse_addresses("S3ML_WITNESSES", given.get("S3ML_WITNESSES", "")),
    )
