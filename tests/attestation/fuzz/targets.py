"""What is fuzzed: every parser of bytes from a peer, a host or a service, and the errors that it documents.

A target takes any bytes. It ends, returns, or raises one of its errors; anything else is a fault. Those that
can write what they read check that, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from s3ml.attestation import (
    EvidenceMalformedError,
    EvidenceRejectedError,
    encode_evidence,
    encode_policy,
    parse_evidence,
    parse_policy,
    verify_evidence,
)
from s3ml.attestation.collateral.amd_reply import read_amd_crl, read_authorities, read_certificate
from s3ml.attestation.collateral.intel_reply import (
    PCK_CRL_CHAIN_FIELDS,
    QE_IDENTITY_CHAIN_FIELDS,
    TCB_INFO_CHAIN_FIELDS,
    read_pck_crl,
    read_qe_identity,
    read_root_crl,
    read_tcb_info,
)
from s3ml.attestation.collateral.item import CollateralRejectedError, Reply, encode_item, parse_item
from s3ml.attestation.generate.certificate_table import parse_certificate_table
from s3ml.attestation.simulated.snp_pki import encode_pem
from s3ml.attestation.simulated.tdx_event_log import encode_event_log, encode_spec_id
from s3ml.attestation.verify.amd.certificate import parse_certificate
from s3ml.attestation.verify.amd.endorsement import read_endorsement
from s3ml.attestation.verify.amd.report import parse_report
from s3ml.attestation.verify.amd.revocation import parse_revocation_list
from s3ml.attestation.verify.certificates import ChainReader, parse_pem
from s3ml.attestation.verify.intel.event_log import parse_event_log, replay, trim_event_log
from s3ml.attestation.verify.intel.sgx_quote import parse_sgx_quote
from s3ml.attestation.verify.intel.tdx_quote import parse_tdx_quote, trim_tdx_quote
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.fuzz import seeds
from tests.attestation.fuzz.flips import DOCUMENTS
from tests.attestation.fuzz.formats import FORMATS, formats

Run = Callable[[bytes], object]
UNREADABLE = (EvidenceMalformedError,)
UNPROVEN = (EvidenceMalformedError, EvidenceRejectedError)
ISSUER_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser.

    Args:
        name: Of the target.
        run: Takes any bytes.
        documented: The errors that it may raise.
        seeds: Returns honest bytes to start from.
    """

    name: str
    run: Run
    documented: tuple[type[Exception], ...]
    seeds: Callable[[], tuple[bytes, ...]]

    def __call__(self, data: bytes) -> bool:
        """Tell whether `data` is accepted; whatever is not documented gets out."""
        try:
            self.run(data)
        except self.documented:
            return False
        return True


def evidence(data: bytes) -> None:
    """Read evidence, write it, and read it again."""
    read = parse_evidence(data)
    assert parse_evidence(encode_evidence(read)) == read


def policy(data: bytes) -> None:
    """Read a policy, write it, and read it again."""
    read = parse_policy(data)
    assert parse_policy(encode_policy(read)) == read


def pem(data: bytes) -> None:
    """Read a chain, write it, and read it again."""
    ders = parse_pem(data.decode("latin-1"), what="chain")
    assert parse_pem("".join(encode_pem(der) for der in ders), what="chain") == ders


def chain(data: bytes) -> None:
    ChainReader().read(data.decode("latin-1"), what="chain")


def event_log(data: bytes) -> None:
    """Read a log, replay it, and write its events again."""
    events = parse_event_log(data)
    assert len(replay(events)) == 4
    assert data.endswith(encode_event_log(events)[len(encode_spec_id()) :])


def trimmed_quote(data: bytes) -> None:
    assert data.startswith(trim_tdx_quote(data))


def trimmed_log(data: bytes) -> None:
    trimmed = trim_event_log(data)
    assert data.startswith(trimmed)
    parse_event_log(trimmed)


def item(data: bytes) -> None:
    """Read what was cached, write it, and read it again."""
    read = parse_item(data, name=seeds.ITEM)
    assert parse_item(encode_item(read), name=seeds.ITEM) == read


def verified(name: str, part: str) -> Run:
    """Verify honest evidence in which a part is any bytes: what is then accepted is what was honest."""

    def run(data: bytes) -> None:
        world = formats()[name]
        honest = world.evidence
        if part in honest.__struct_fields__:
            changed = msgspec.structs.replace(honest, **{part: data})
        else:
            holder = "collateral" if honest.collateral is not None else "certificates"
            inner = getattr(honest, holder)
            value: Any = data.decode("latin-1") if isinstance(getattr(inner, part), str) else data
            changed = msgspec.structs.replace(
                honest, **{holder: msgspec.structs.replace(inner, **{part: value})}
            )
        asked = {"report_data": world.report_data, "now": world.now}
        enclave = verify_evidence(changed, world.policy, **asked)
        assert enclave.measurement == verify_evidence(honest, world.policy, **asked).measurement

    return run


def replied(read: Callable[[Reply], object], *names: str) -> Run:
    """Take an answer apart whose body is any bytes, and whose header fields what follows the last NUL."""

    def run(data: bytes) -> None:
        body, _, field = data.rpartition(seeds.SEPARATOR) if names else (data, b"", b"")
        fields = dict.fromkeys(names, field.decode("latin-1"))
        read(Reply(url="https://localhost/", status=200, fields=fields, body=body))

    return run


def _verifying(name: str, part: str) -> Target:
    short = name.lower().replace(" ", "-")
    return Target(
        name=f"verify-{short}-{part.replace('_', '-')}",
        run=verified(name, part),
        documented=UNPROVEN,
        seeds=lambda: seeds.quotes(name) if part == "quote" else seeds.honest_part(name, part),
    )


def _replying(name: str, run: Run, found: Callable[[], tuple[bytes, ...]]) -> Target:
    return Target(name=f"reply-{name}", run=run, documented=(CollateralRejectedError,), seeds=found)


def _reading(name: str, run: Run, found: Callable[[], tuple[bytes, ...]]) -> Target:
    return Target(name=name, run=run, documented=UNREADABLE, seeds=found)


_ALL = (
    _reading("evidence", evidence, seeds.all_evidence),
    Target(name="policy", run=policy, documented=(ConfigurationError,), seeds=seeds.policies),
    _reading("pem", pem, seeds.chains),
    _reading("chain", chain, seeds.chains),
    _reading("sgx-quote", parse_sgx_quote, lambda: seeds.quotes("SGX")),
    _reading("tdx-quote", parse_tdx_quote, lambda: seeds.quotes("TDX 1.0", "TDX 1.5")),
    _reading("tdx-quote-trimmed", trimmed_quote, lambda: seeds.quotes("TDX 1.0", "TDX 1.5")),
    _reading("snp-report", parse_report, lambda: seeds.quotes("SEV-SNP")),
    _reading("event-log", event_log, seeds.event_logs),
    _reading("event-log-trimmed", trimmed_log, seeds.event_logs),
    _reading("amd-certificate", parse_certificate, seeds.amd_certificates),
    _reading("amd-endorsement", read_endorsement, seeds.amd_certificates),
    _reading("amd-revocation-list", parse_revocation_list, lambda: (seeds.part("SEV-SNP", "crl"),)),
    _reading("certificate-table", parse_certificate_table, seeds.certificate_tables),
    Target(name="collateral-item", run=item, documented=(CollateralRejectedError,), seeds=seeds.items),
    _replying(
        "tcb-info",
        replied(read_tcb_info, *TCB_INFO_CHAIN_FIELDS),
        lambda: seeds.answers("tcbInfo", "tcb_info"),
    ),
    _replying(
        "qe-identity",
        replied(read_qe_identity, *QE_IDENTITY_CHAIN_FIELDS),
        lambda: seeds.answers("enclaveIdentity", "qe_identity"),
    ),
    _replying(
        "pck-crl",
        replied(read_pck_crl, *PCK_CRL_CHAIN_FIELDS),
        lambda: seeds.crl_answers("SGX", "pck_crl", is_chained=True),
    ),
    _replying("root-crl", replied(read_root_crl), lambda: seeds.crl_answers("SGX", "root_ca_crl")),
    _replying("amd-authorities", replied(read_authorities), seeds.chains),
    _replying("amd-certificate", replied(read_certificate), seeds.amd_certificates),
    _replying("amd-crl", replied(read_amd_crl), lambda: seeds.crl_answers("SEV-SNP", "crl")),
    *(_verifying(name, "quote") for name in FORMATS),
    *(_verifying("SGX", document) for document in (*DOCUMENTS, *ISSUER_CHAINS)),
    _verifying("TDX 1.0", "tcb_info"),
    _verifying("TDX 1.0", "event_log"),
    _verifying("SEV-SNP", "chain"),
    _verifying("SEV-SNP", "crl"),
)
TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _ALL})
