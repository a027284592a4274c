"""What is fixed in an image for Gramine, and what its host may still set: one plan per role.

The files of an image are not named here. They follow from the roles of the simulated platform, so that what
is tested there is what runs here.

Source: docs/spec/gramine-image.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from s3ml.attestation.simulated.installed import PYTHON, SCRIPT
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.quoter import PRODUCT_IDS

CODE: Final = "/opt/s3ml"
DATA: Final = "/var/lib/s3ml"
RUNTIME: Final = "runtime"
SYSTEM: Final = "system"
SIMULATION: Final = "site/s3ml/attestation/simulated/"
# -I: no environment, no current folder. -S: no site and no .pth. -B: nothing is written.
ARGUMENTS: Final = (f"{CODE}/{PYTHON}", "-I", "-S", "-B", f"{CODE}/{SCRIPT}")
# The platform's socket decides which TEE a process believes to run in: never the host's to say.
WITHHELD: Final = frozenset({"S3ML_SIMULATED_PLATFORM"})
# Addresses of what vendors sign.
_COLLATERAL: Final = ("S3ML_KDS_URL", "S3ML_PCCS_URL", "S3ML_PCS_URL")

# One thread each: every thread of a mathematical library takes one of the enclave's slots.
_FIXED: Final = {
    "HOME": "/tmp",  # noqa: S108 (a tmpfs inside the enclave)
    "LD_LIBRARY_PATH": f"{CODE}/{RUNTIME}:{CODE}/{SYSTEM}",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclavePlan:
    """What an image of one role fixes.

    Args:
        product_id: ISVPRODID, by which a manifest says whose it is.
        fixed: Environment variables with their values; measured.
        passed: Environment variables that the host may set. No trust decision depends on any.
        enclave_size: The default size: a power of two, as Gramine writes it.
        threads: The default number of thread slots.
    """

    product_id: int
    fixed: Mapping[str, str]
    passed: tuple[str, ...]
    enclave_size: str
    threads: int


PLANS: Final[Mapping[Role, EnclavePlan]] = {
    # 100 MiB resident when measured without SGX; the log is read through a small page cache. Slots for 32
    # verifications and quotes, two for each of 8 witnesses, the database's pool, and Gramine's own 4.
    "key-service": EnclavePlan(
        product_id=PRODUCT_IDS["key-service"],
        fixed=_FIXED,
        passed=("S3ML_DATABASE", *_COLLATERAL, "S3ML_LISTEN", "S3ML_PEERS", "S3ML_WITNESSES"),
        enclave_size="512M",
        threads=64,
    ),
    # 210 MiB with one model of 50 MB when measured without SGX; slots for 32 inferences and Gramine's own 4.
    "model-server": EnclavePlan(
        product_id=PRODUCT_IDS["model-server"],
        fixed=_FIXED,
        passed=(
            "S3ML_BUNDLES",
            "S3ML_DRAIN_S",
            "S3ML_INFERENCE_THREADS",
            "S3ML_KEY_SERVICE",
            "S3ML_LISTEN",
            "S3ML_MAX_REQUEST_BYTES",
            "S3ML_MODEL_MEMORY_BYTES",
            "S3ML_OTLP_ENDPOINT",
            *_COLLATERAL,
            "S3ML_REPLICA",
            "S3ML_SERVICE",
        ),
        enclave_size="2G",
        threads=64,
    ),
}
