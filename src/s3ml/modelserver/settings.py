"""What the host may set: addresses, sizes and names, never anything that a trust decision depends on.

The whole allow-list is in this module. A setting that it does not know rejects, so a misspelt one is noticed.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s3ml.attestation.generate.collateral import parse_addresses
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name
from s3ml.primitives.units import GIB, KIB, MIB

PREFIX = "S3ML_"
DEFAULT_MAX_REQUEST_BYTES = 16 * MIB
MAX_REQUEST_RANGE_BYTES = (4 * KIB, 256 * MIB)
# Two, so that one long inference does not hold up everybody; each costs a stack and its activations.
DEFAULT_INFERENCE_THREADS = 2
INFERENCE_THREADS_RANGE = (1, 64)
# Longer than a request may take, so that what was accepted is answered. Kubernetes allows 30 s by default.
DEFAULT_DRAIN_S = 35
DRAIN_RANGE_S = (1, 600)
# A model may be as large as a payload may be; what a machine or an EPC really has, its operator knows.
DEFAULT_MODEL_MEMORY_BYTES = 4 * GIB
MODEL_MEMORY_RANGE_BYTES = (MIB, 1024 * GIB)

Value = str | int | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings of one model server.

    Args:
        host: The address to listen on.
        port: The TCP port, 0 for any free one.
        key_service: Base URLs of the key service's replicas, each its own, none of a gateway before several.
        service: The one service that this process serves.
        bundles: fsspec URL or path of the store of bundles.
        max_request_bytes: The largest sealed request, in bytes.
        replica: The name that this process goes by in logs and, for information only, in replies.
        inference_threads: How many requests are computed at the same time, each on one thread.
        model_memory_bytes: What models may hold of memory, all together.
        drain_s: How long what was accepted may take when the process is asked to end.
        otlp_endpoint: The base URL of an OpenTelemetry collector, where requests are to be traced.
        simulated_platform: The socket of a simulated platform, where there is one.
        pccs_urls: Caches of Intel's collateral, asked before Intel's own service.
        pcs_urls: Intel's own service, or relays of it; none means Intel's.
        kds_urls: AMD's service, or relays of it; none means AMD's.
    """

    host: str
    port: int
    key_service: tuple[str, ...]
    service: str
    bundles: str
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    replica: str = "model-server"
    inference_threads: int = DEFAULT_INFERENCE_THREADS
    model_memory_bytes: int = DEFAULT_MODEL_MEMORY_BYTES
    drain_s: int = DEFAULT_DRAIN_S
    otlp_endpoint: str | None = None
    simulated_platform: str | None = None
    pccs_urls: tuple[str, ...] = ()
    pcs_urls: tuple[str, ...] = ()
    kds_urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.service, what="S3ML_SERVICE")
        check_name(self.replica, what="S3ML_REPLICA")
        if not self.key_service:
            raise ConfigurationError("S3ML_KEY_SERVICE: expected a URL of http or https, got nothing")
        if not self.bundles:
            raise ConfigurationError("S3ML_BUNDLES: expected a folder or an fsspec URL, got nothing")
        _check_range("S3ML_MAX_REQUEST_BYTES", self.max_request_bytes, MAX_REQUEST_RANGE_BYTES)
        _check_range("S3ML_MODEL_MEMORY_BYTES", self.model_memory_bytes, MODEL_MEMORY_RANGE_BYTES)
        _check_range("S3ML_INFERENCE_THREADS", self.inference_threads, INFERENCE_THREADS_RANGE)
        _check_range("S3ML_DRAIN_S", self.drain_s, DRAIN_RANGE_S)


def parse_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the ``S3ML_*`` variables of an environment.

    Raises:
        ConfigurationError: a variable is unknown, missing or malformed; all unknown and all missing ones are
            named at once.
    """
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if unknown := sorted(given.keys() - _FIELDS.keys() - {"S3ML_LISTEN"}):
        raise ConfigurationError(f"settings: unknown: {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    if missing := [name for name in _REQUIRED if not given.get(name)]:
        raise ConfigurationError(f"settings: missing: {', '.join(missing)}")
    host, port = _address(given.pop("S3ML_LISTEN"))
    values: dict[str, Value] = {}
    for name, text in given.items():
        field, convert = _FIELDS[name]
        values[field] = convert(name, text)
    return Settings(host=host, port=port, **values)  # type: ignore[arg-type]  # the table pairs them


def _text(_name: str, text: str) -> str:
    return text


def _url(name: str, text: str) -> str:
    addresses = parse_addresses(name, text)
    if len(addresses) != 1:
        raise ConfigurationError(f"{name}: expected one URL, got {len(addresses)}")
    return addresses[0]


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text[:20])


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and int(port[:6]) < 2**16):
        raise ConfigurationError(f"S3ML_LISTEN: expected host:port, got {text[:80]!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    if not limits[0] <= value <= limits[1]:
        raise ConfigurationError(f"{name}: expected {limits[0]} to {limits[1]}, got {value}")


_FIELDS: dict[str, tuple[str, Callable[[str, str], Value]]] = {
    "S3ML_KEY_SERVICE": ("key_service", parse_addresses),
    "S3ML_SERVICE": ("service", _text),
    "S3ML_BUNDLES": ("bundles", _text),
    "S3ML_MAX_REQUEST_BYTES": ("max_request_bytes", _number),
    "S3ML_REPLICA": ("replica", _text),
    "S3ML_INFERENCE_THREADS": ("inference_threads", _number),
    "S3ML_MODEL_MEMORY_BYTES": ("model_memory_bytes", _number),
    "S3ML_DRAIN_S": ("drain_s", _number),
    "S3ML_OTLP_ENDPOINT": ("otlp_endpoint", _url),
    "S3ML_KDS_URL": ("kds_urls", parse_addresses),
    "S3ML_PCCS_URL": ("pccs_urls", parse_addresses),
    "S3ML_PCS_URL": ("pcs_urls", parse_addresses),
    "S3ML_SIMULATED_PLATFORM": ("simulated_platform", _text),
}
_REQUIRED = ("S3ML_LISTEN", "S3ML_KEY_SERVICE", "S3ML_SERVICE", "S3ML_BUNDLES")
KNOWN = ("S3ML_LISTEN", *_FIELDS)
