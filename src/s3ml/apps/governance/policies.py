"""Policies for the code that is installed here: what an owner computes, reads and signs."""

from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation import AppraisalPolicy, Technology, Tee, encode_policy, parse_policy
from s3ml.attestation.policy import POLICY_LIMIT_BYTES, Alternative
from s3ml.attestation.simulated.image import ImageSource, measure
from s3ml.attestation.simulated.quoter import measurement_of_image
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited

Role = Literal["key-service", "model-server"]


def measure_installed(role: Role, simulates: Technology = Technology.SGX) -> str:
    """Return the measurement (hexadecimal) that the simulated platform gives the installed code of `role`.

    Args:
        role: Whose code.
        simulates: Whose formats the platform's evidence has.
    """
    return measurement_of_image(measure(ImageSource.installed(role)), simulates)


def read_root(path: Path) -> bytes:
    """Read a simulation root, PEM, and return its DER.

    Raises:
        ConfigurationError: the file is missing or holds no certificate.
    """
    pem = read_limited(path, limit_bytes=16_384, what="simulation root")
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ConfigurationError(f"simulation root {path}: expected a PEM certificate") from error


def simulated_policy(role: Role, *, root: bytes, simulates: Technology = Technology.SGX) -> AppraisalPolicy:
    """Return the policy that accepts the installed code of `role` on the simulated platform of `root`, only.

    Args:
        role: Whose code.
        root: The simulation root, DER.
        simulates: Whose formats the platform's evidence has.
    """
    alternative = Alternative(
        tee=Tee.SIMULATED,
        simulates=simulates,
        root=root,
        measurements=(measure_installed(role, simulates),),
    )
    return AppraisalPolicy(accept=(alternative,))


def policy_document(role: Role, *, root: bytes, simulates: Technology = Technology.SGX) -> bytes:
    """Return `simulated_policy` as the TOML that owners read and sign."""
    return encode_policy(simulated_policy(role, root=root, simulates=simulates))


def read_policy(path: Path) -> tuple[bytes, AppraisalPolicy]:
    """Read a policy file: its bytes, whose digest counts, and what they mean.

    Raises:
        ConfigurationError: the file is missing, or is no policy.
    """
    data = read_limited(path, limit_bytes=POLICY_LIMIT_BYTES, what="policy")
    try:
        return data, parse_policy(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
