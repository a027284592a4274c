"""Answers of Intel's services: taken apart exactly, and believed only where the right role signed them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_encode

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation import EvidenceMalformedError
from s3ml.attestation.collateral import CollateralRejectedError, Freshness, IntelService
from s3ml.attestation.collateral.intel import IntelInquiries, ask_intel, read_platform
from s3ml.attestation.collateral.intel_reply import (
    read_pck_crl,
    read_qe_identity,
    read_root_crl,
    read_tcb_info,
)
from s3ml.attestation.collateral.item import Content, Inquiry, Item, Reply
from s3ml.attestation.simulated.collateral import render_crl
from s3ml.attestation.simulated.pki import SimulatedPKI, issue_certificate
from s3ml.attestation.verify.intel.tdx_quote import trim_tdx_quote
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World
from tests.attestation.collateral_world import FMSPC
from tests.attestation.fakes.provisioning import signed_reply

FIXTURES = os.environ.get("S3ML_FIXTURES")
needs_fixtures = pytest.mark.skipif(not FIXTURES, reason="S3ML_FIXTURES names no folder with real quotes")
LIFETIME = timedelta(days=30)


def real_quote(file: str) -> bytes:
    data = (Path(str(FIXTURES)) / "quotes" / file).read_bytes()
    return trim_tdx_quote(data) if file.startswith("tdx") else data


def reply(body: bytes, **fields: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Reply(url="http://host/", status=200, fields=named, body=body)


def inquiries(pki: SimulatedPKI, world: World, **service: Any) -> IntelInquiries:
    service_ = IntelService(endpoints=(), root=pki.root_der, **service)
    return ask_intel(service_, read_platform(world.quote), Freshness())


def item(inquiry: Inquiry, content: Content) -> Item:
    return Item(
        name=inquiry.name,
        chain=content.chain,
        text=content.text,
        signature=content.signature,
        der=content.der,
        confirmed_at=NOW,
        source="here",
    )


class TestPlatform:
    """What to ask follows from the PCK certificate in the quote."""

    def test_a_simulated_quote_names_its_platform(self, world: World) -> None:
        platform = read_platform(world.quote)
        assert (platform.technology, platform.fmspc, platform.authority) == ("sgx", FMSPC, "platform")

    @needs_fixtures
    @pytest.mark.parametrize(
        ("file", "told"),
        [
            ("sgx_quote", ("sgx", "00A067110000", "processor")),
            ("tdx_quote", ("tdx", "B0C06F000000", "platform")),
        ],
    )
    def test_real_quotes_name_their_platforms(self, file: str, told: tuple[str, ...]) -> None:
        platform = read_platform(real_quote(file))
        assert (platform.technology, platform.fmspc, platform.authority) == told

    def test_another_issuer_is_malformed(self, pki: SimulatedPKI, world: World) -> None:
        chain = (pki.pck.pem + pki.pck_ca.pem).encode()
        swapped = (pki.pck.pem + pki.tcb_signing.pem).encode()
        quote = world.quote.replace(chain, swapped)
        with pytest.raises(EvidenceMalformedError):
            read_platform(quote)

    def test_a_leaf_without_intels_extension_is_malformed(self, pki: SimulatedPKI, world: World) -> None:
        plain = issue_certificate("SGX PCK Certificate", CREATED, issuer=pki.pck_ca)
        quote = world.with_pki(pck=plain).quote
        with pytest.raises(EvidenceMalformedError, match="SGX extension"):
            read_platform(quote)

    def test_an_authority_of_another_kind_is_malformed(self, pki: SimulatedPKI, world: World) -> None:
        other = issue_certificate("SGX Other CA", CREATED, issuer=pki.root, is_authority=True)
        with pytest.raises(EvidenceMalformedError, match="expected SGX PCK Platform CA or"):
            read_platform(world.with_pki(pck_ca=other).quote)

    def test_a_platform_of_the_processor_authority_asks_for_its_list(
        self, pki: SimulatedPKI, world: World
    ) -> None:
        other = issue_certificate("SGX PCK Processor CA", CREATED, issuer=pki.root, is_authority=True)
        made = inquiries(pki, world.with_pki(pck_ca=other))
        assert made.pck_crl.name.endswith("pck-crl-processor")

    def test_what_another_root_signed_never_has_intels_names(self, pki: SimulatedPKI, world: World) -> None:
        assert inquiries(pki, world).root_crl.name.startswith("simulated-")
        real = ask_intel(IntelService(endpoints=()), read_platform(world.quote), Freshness())
        assert real.tcb_info.name == f"intel-sgx-tcb-info-{FMSPC.lower()}-standard"


class TestReplies:
    """A reply is taken apart exactly, limits first."""

    def test_the_signed_object_is_cut_out_byte_for_byte(self) -> None:
        text = '{ "b" : 1,\t"a":"\\u00e9é", "a":2 }'
        body = f' {{ "signature" : "{"Ab" * 64}" , "more": [], "tcbInfo" :\n{text} }}\n'.encode()
        content = read_tcb_info(reply(body, tcb_info_issuer_chain="a%0Ab+c"))
        assert content == Content(text=text, signature=b"\xab" * 64, chain="a\nb+c")

    def test_the_older_name_of_the_header_field_is_known(self) -> None:
        body = signed_reply("tcbInfo", "{}", bytes(64))
        assert read_tcb_info(reply(body, sgx_tcb_info_issuer_chain="chain")).chain == "chain"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"tcbInfo":{}}',
            signed_reply("tcbInfo", "{}", bytes(63)),
            signed_reply("tcbInfo", "{}", bytes(65)),
            signed_reply("tcbInfo", "[]", bytes(64)),
            signed_reply("tcbInfo", '"text"', bytes(64)),
            signed_reply("tcbInfo", '{"a":"' + "x" * 24 * 1024 + '"}', bytes(64)),
            signed_reply("tcbInfo", "{}", bytes(64)).replace(b'"00', b'"0g'),
            signed_reply("tcbInfo", "{}", bytes(64)).replace(b'"signature":"', b'"signature":1,"x":"'),
            signed_reply("tcbInfo", '{"a":"x"}', bytes(64)).replace(b'"x"', b'"\xff"'),
            b"[" * 60_000,
        ],
    )
    def test_another_form_is_rejected(self, body: bytes) -> None:
        for read in (read_tcb_info, read_qe_identity):
            named = body.replace(b"tcbInfo", b"enclaveIdentity") if read is read_qe_identity else body
            with pytest.raises(CollateralRejectedError):
                read(reply(named, tcb_info_issuer_chain="c", sgx_enclave_identity_issuer_chain="c"))

    @pytest.mark.parametrize("chain", [None, "é", "%ff", "x" * 8193])
    def test_a_chain_that_is_missing_or_none_is_rejected(self, chain: str | None) -> None:
        fields = {} if chain is None else {"tcb_info_issuer_chain": chain}
        with pytest.raises(CollateralRejectedError, match="tcb-info-issuer-chain"):
            read_tcb_info(reply(signed_reply("tcbInfo", "{}", bytes(64)), **fields))

    def test_a_revocation_list_comes_in_three_forms(self, pki: SimulatedPKI) -> None:
        der = render_crl(pki.root, ISSUED, LIFETIME)
        pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
        forms = (der, pem, der.hex().encode(), der.hex().upper().encode() + b"\n")
        assert [read_root_crl(reply(form)).der for form in forms] == [der] * 4

    @pytest.mark.parametrize("body", [b"", b"\x30\x00", b"00", b"-----BEGIN X509 CRL-----\nAA", b"<html>"])
    def test_what_is_no_revocation_list_is_rejected(self, body: bytes) -> None:
        with pytest.raises(CollateralRejectedError, match="expected a revocation list"):
            read_root_crl(reply(body))

    def test_too_long_a_revocation_list_is_rejected(self, pki: SimulatedPKI) -> None:
        der = render_crl(pki.root, ISSUED, LIFETIME, revoked=[pki.pck.certificate] * 500)
        with pytest.raises(CollateralRejectedError, match="at most 16384 bytes"):
            read_pck_crl(reply(der, sgx_pck_crl_issuer_chain="c"))

    @needs_fixtures
    @pytest.mark.parametrize("kind", ["sgx", "tdx"])
    def test_real_documents_are_proved(self, kind: str) -> None:
        folder = Path(str(FIXTURES)) / "quotes"
        known = msgspec.json.decode((folder / f"{kind}_quote_collateral.json").read_bytes())
        made = ask_intel(
            IntelService(endpoints=()),
            read_platform(real_quote(f"{kind}_quote")),
            Freshness(),
        )
        body = signed_reply("tcbInfo", known["tcb_info"], bytes.fromhex(known["tcb_info_signature"]))
        chain = percent_encode(known["tcb_info_issuer_chain"])
        content = read_tcb_info(reply(body, tcb_info_issuer_chain=chain))
        at = datetime(2025, 7, 1, tzinfo=UTC)
        assert made.tcb_info.prove(item(made.tcb_info, content), at).evaluation_data_number == 17
        root_crl = read_root_crl(reply(known["root_ca_crl"].encode()))
        assert made.root_crl.prove(item(made.root_crl, root_crl), at).issued_at.year >= 2025
        pck_crl = read_pck_crl(
            reply(
                bytes.fromhex(known["pck_crl"]),
                sgx_pck_crl_issuer_chain=percent_encode(known["pck_crl_issuer_chain"]),
            )
        )
        assert made.pck_crl.prove(item(made.pck_crl, pck_crl), at).valid_until > at
