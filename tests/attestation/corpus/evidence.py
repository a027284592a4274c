"""Lies in the container: what evidence says that it is, and how it is written."""

import base64
from typing import Any

from s3ml.attestation import Technology
from s3ml.attestation.evidence import EVIDENCE_LIMIT_BYTES, QUOTE_LIMIT_BYTES
from tests.attestation.corpus.lie import Lie, Rewrite, fields, rewritten

INTEL_COLLATERAL = {
    "pck_crl_issuer_chain": "PEM",
    "root_ca_crl": "AA==",
    "pck_crl": "AA==",
    "tcb_info_issuer_chain": "PEM",
    "tcb_info": "{}",
    "tcb_info_signature": base64.b64encode(bytes(64)).decode(),
    "qe_identity_issuer_chain": "PEM",
    "qe_identity": "{}",
    "qe_identity_signature": base64.b64encode(bytes(64)).decode(),
}


def field(name: str, value: object) -> Rewrite:
    """Write something else in a field."""
    return fields(lambda document: document.update({name: value}))


def longer_quote(document: dict[str, Any]) -> None:
    longer = base64.b64decode(document["quote"]).ljust(QUOTE_LIMIT_BYTES + 1)
    document["quote"] = base64.b64encode(longer).decode()


def hexadecimal_quote(document: dict[str, Any]) -> None:
    document["quote"] = base64.b64decode(document["quote"]).hex() + "0"


LIES: tuple[Lie, ...] = (
    rewritten("evidence-empty", lambda _: b""),
    rewritten("evidence-cut", lambda text: text[:-1]),
    rewritten("evidence-with-a-byte-behind", lambda text: text + b"0"),
    rewritten("evidence-twice", lambda text: text + text),
    rewritten("evidence-of-another-encoding", lambda text: text.decode().encode("utf-16")),
    rewritten("evidence-too-large", lambda text: text + b" " * EVIDENCE_LIMIT_BYTES),
    rewritten("evidence-in-a-list", lambda text: b"[" + text + b"]"),
    rewritten("evidence-of-version-2", field("version", 2)),
    rewritten("evidence-of-a-version-in-text", field("version", "1")),
    rewritten("evidence-with-an-unknown-field", field("nonce", "AA==")),
    rewritten("evidence-of-an-unknown-tee", field("tee", "trustzone")),
    rewritten("evidence-without-a-quote", fields(lambda document: document.pop("quote"))),
    rewritten("quote-empty", field("quote", "")),
    rewritten("quote-too-large", fields(longer_quote)),
    rewritten("quote-in-hexadecimal", fields(hexadecimal_quote)),
    rewritten("simulation-of-an-unknown-tee", field("simulates", "trustzone")),
    rewritten("hardware-that-simulates", fields(lambda d: d.update(tee="sgx", simulates="sgx"))),
    rewritten("simulated-evidence-called-sgx", fields(lambda d: d.update(tee="sgx", simulates=None)), "tee"),
    rewritten("simulated-evidence-called-tdx", fields(lambda d: d.update(tee="tdx", simulates=None)), "tee"),
    rewritten(
        "simulated-evidence-called-sev-snp", fields(lambda d: d.update(tee="sev-snp", simulates=None)), "tee"
    ),
)


def another_simulation(technology: Technology) -> tuple[Lie, ...]:
    """Evidence that is said to have the formats of another TEE."""
    return tuple(
        rewritten(f"simulation-called-{other}", field("simulates", other), "tee")
        for other in Technology
        if other is not technology
    )


# What an Intel TEE needs, and what it has no use for.
INTEL: tuple[Lie, ...] = (
    rewritten("collateral-missing", field("collateral", None), "collateral", "measurement"),
    rewritten("certificates-of-amd", field("certificates", {"chain": "AMD's"}), "certificates"),
)
SGX: tuple[Lie, ...] = (rewritten("event-log-of-tdx", field("event_log", "bG9n"), "event_log"),)
SNP: tuple[Lie, ...] = (
    rewritten("certificates-missing", field("certificates", None), "certificates", "measurement", "crl"),
    rewritten("event-log-of-tdx", field("event_log", "bG9n"), "event_log"),
    rewritten("collateral-of-intel", field("collateral", INTEL_COLLATERAL), "collateral"),
)
