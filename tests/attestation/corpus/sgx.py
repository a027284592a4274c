"""Lies about SGX enclaves."""

from typing import Any

from s3ml.attestation import Technology
from s3ml.attestation.simulated.quote import encode_header
from tests.attestation.attestation_world import ISSUED, SIGNER
from tests.attestation.corpus.intel_edits import both, policy, qe_identity, quoted, tcb_info
from tests.attestation.corpus.lie import Lie, Tell, rejected, unproven

BY_SIGNER = policy(measurements=None, signer=SIGNER.hex(), product_id=7, min_svn=5)


def flags(bits: int) -> Tell:
    """Launch the enclave with other attributes."""
    return quoted(flags=bits)


def header(**versions: Any) -> Tell:
    return lambda world: world.with_quote(header=encode_header(**versions))


LIES: tuple[Lie, ...] = (
    rejected("other-code", quoted(measurement=bytes(32)), "measurement"),
    rejected("code-with-one-bit-changed", quoted(measurement=bytes(31) + b"\x01"), "measurement"),
    rejected("other-signer", quoted(signer=bytes(32)), "signer", given=BY_SIGNER),
    rejected("other-product", quoted(product_id=8), "product_id", given=BY_SIGNER),
    rejected("older-version", quoted(svn=4), "svn", given=BY_SIGNER),
    unproven("debug", flags(0x07), "attributes"),
    rejected("not-initialised", flags(0x04), "attributes"),
    rejected("in-32-bit-mode", flags(0x01), "attributes"),
    rejected("reserved-attribute", flags(0x0D), "attributes"),
    rejected("with-the-provisioning-key", flags(0x15), "attributes"),
    rejected("with-the-launch-token-key", flags(0x25), "attributes"),
    rejected("with-key-separation-and-sharing", flags(0x85), "attributes"),
    rejected("unknown-attribute", flags(0x05 | 1 << 63), "attributes"),
    rejected("tcb-info-of-version-2", tcb_info(version=2), "tcb_info"),
    unproven("qe-identity-of-version-3", qe_identity(version=3), "qe_identity"),
    unproven("tcb-info-of-tdx", tcb_info(id="TDX"), "tcb_info"),
    unproven("qe-identity-of-tdx", qe_identity(id="TD_QE"), "qe_identity"),
    unproven(
        "collateral-of-tdx",
        lambda w: w.with_(collateral=w.pki.collateral(ISSUED, technology=Technology.TDX)),
        "tcb_info",
        "qe_identity",
    ),
    rejected(
        "older-quoting-enclave",
        header(qe_svn=7),
        "qe_svn",
        given=both(header(qe_svn=8), policy(min_qe_svn=8)),
    ),
    rejected(
        "older-certification-enclave",
        header(pce_svn=12),
        "pce_svn",
        given=both(header(pce_svn=13), policy(min_pce_svn=13)),
    ),
)
