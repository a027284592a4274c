"""TDX quotes are read exactly: every field where Intel's layout has it, nothing before, between or behind."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import EvidenceMalformedError
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.tdx_quote import (
    TrustDomainReport,
    encode_tdx_body,
    encode_tdx_header,
    render_tdx_quote,
)
from s3ml.attestation.verify.intel.tdx_quote import TdxQuote, parse_tdx_quote, trim_tdx_quote
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.tdx_world import TdxWorld, honest_domain

SIGNED_4 = 48 + 584
CERTIFICATION = SIGNED_4 + 4 + 64 + 64
AUTHENTICATION = CERTIFICATION + 6 + 384 + 64
CHAIN = AUTHENTICATION + 2 + 32 + 6

# Every field of a report 1.5, with a value of its own.
FIELDS: dict[str, Any] = {
    "tcb_svn": bytes(range(16)),
    "module_measurement": b"\x01" * 48,
    "module_signer": b"\x02" * 48,
    "module_flags": 0x0303030303030303,
    "flags": 0x0404040404040404,
    "xfam": 0x0505050505050505,
    "measurement": b"\x06" * 48,
    "config_id": b"\x07" * 48,
    "owner": b"\x08" * 48,
    "owner_config": b"\x09" * 48,
    "registers": (b"\x0a" * 48, b"\x0b" * 48, b"\x0c" * 48, b"\x0d" * 48),
    "report_data": b"\x0e" * 64,
    "current_tcb_svn": b"\x0f" * 16,
    "service_td": b"\x10" * 48,
}
THEIRS = {
    "tcb_svn": "tee_tcb_svn",
    "module_measurement": "mr_seam",
    "module_signer": "mr_signer_seam",
    "measurement": "mr_td",
    "config_id": "mr_config_id",
    "owner": "mr_owner",
    "owner_config": "mr_owner_config",
    "report_data": "report_data",
}


def patched(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda quote: quote[:offset] + value + quote[offset + len(value) :]


def rebuilt(quote: TdxQuote) -> bytes:
    """Write a parsed quote again, the last NUL of its chain apart."""
    certification = quote.certification
    chain = certification.chain.encode("latin-1")
    inner = b"".join(
        (
            certification.report,
            certification.report_signature,
            len(certification.authentication).to_bytes(2, "little"),
            certification.authentication,
            b"\x05\x00",
            len(chain).to_bytes(4, "little"),
            chain,
        )
    )
    outer = b"\x06\x00" + len(inner).to_bytes(4, "little") + inner
    signature = certification.signature + certification.attestation_key + outer
    return certification.signed + len(signature).to_bytes(4, "little") + signature


class TestFields:
    """Each field stands where the layout says."""

    @pytest.mark.parametrize("version", [4, 5])
    def test_a_report_10(self, pki: SimulatedPKI, version: int) -> None:
        fields = FIELDS | {"current_tcb_svn": None, "service_td": None}
        quote = parse_tdx_quote(render_tdx_quote(pki, TrustDomainReport(**fields), version=version))
        assert (quote.version, asdict(quote.domain)) == (version, fields)

    def test_a_report_15(self, pki: SimulatedPKI) -> None:
        quote = parse_tdx_quote(render_tdx_quote(pki, TrustDomainReport(**FIELDS), version=5))
        assert (quote.version, asdict(quote.domain)) == (5, FIELDS)

    @pytest.mark.parametrize("version", [4, 5])
    def test_dcap_qvl_reads_the_same(self, pki: SimulatedPKI, version: int) -> None:
        fields = FIELDS | {"current_tcb_svn": None, "service_td": None}
        data = render_tdx_quote(pki, TrustDomainReport(**fields), version=version)
        theirs, ours = dcap_qvl.parse_quote(data).report, parse_tdx_quote(data).domain
        for name, their_name in THEIRS.items():
            assert getattr(ours, name) == getattr(theirs, their_name), name
        assert ours.registers == (theirs.rt_mr0, theirs.rt_mr1, theirs.rt_mr2, theirs.rt_mr3)
        assert ours.flags.to_bytes(8, "little") == theirs.td_attributes
        assert ours.module_flags.to_bytes(8, "little") == theirs.seam_attributes
        assert ours.xfam.to_bytes(8, "little") == theirs.xfam

    @pytest.mark.parametrize("version", [4, 5])
    def test_what_is_signed_is_header_and_body(self, pki: SimulatedPKI, version: int) -> None:
        data = render_tdx_quote(pki, honest_domain(), version=version)
        body = encode_tdx_body(honest_domain(), version=version)
        assert parse_tdx_quote(data).certification.signed == encode_tdx_header(version=version) + body

    def test_the_quoting_enclaves_version_is_that_of_its_report(self, tdx_world: TdxWorld) -> None:
        quote = tdx_world.with_quote(quoting_enclave={"svn": 9}).quote
        certification = parse_tdx_quote(quote).certification
        assert (certification.qe_svn, certification.pce_svn) == (9, None)

    def test_it_is_rebuilt_byte_for_byte(self, tdx_world: TdxWorld) -> None:
        for world in (tdx_world, tdx_world.with_version(5), tdx_world.with_report_15()):
            assert rebuilt(parse_tdx_quote(world.quote)) == world.quote


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "one byte": (lambda quote: quote[:1], "version: expected 2 bytes, got 1"),
    "header only": (lambda quote: quote[:48], "TD report: expected 584 bytes, got 0"),
    "cut within the header": (lambda quote: quote[:47], "user data: expected 20 bytes, got 19"),
    "cut within the report": (lambda quote: quote[:600], "TD report: expected 584 bytes, got 552"),
    "cut at the signature": (lambda quote: quote[:SIGNED_4], "signature length: expected 4 bytes, got 0"),
    "a byte missing": (lambda quote: quote[:-1], "bytes of signature, got"),
    "a zero appended": (lambda quote: quote + b"\x00", "bytes of signature, got"),
    "version 3": (patched(0, b"\x03"), "version: expected 4 or 5, got 3"),
    "version 6": (patched(0, b"\x06"), "version: expected 4 or 5, got 6"),
    "a P-384 key": (patched(2, b"\x03"), "attestation key type: expected 2, got 3"),
    "SGX": (patched(4, b"\x00"), "TEE type: expected 129, got 0"),
    "a quoting enclave's version in the header": (patched(8, b"\x01"), "reserved: expected 0, got 1"),
    "a certification enclave's version in the header": (patched(10, b"\x01"), "reserved: expected 0, got"),
    "another vendor": (patched(12, b"\x00"), "QE vendor: expected 939a7233"),
    "no outer certification": (patched(CERTIFICATION, b"\x05"), "kind of outer certification data: exp"),
    "an outer length of one less": (
        lambda quote: patched(
            CERTIFICATION + 2,
            (int.from_bytes(quote[CERTIFICATION + 2 :][:4], "little") - 1).to_bytes(4, "little"),
        )(quote),
        "bytes of outer certification data, got",
    ),
    "an authentication too long": (patched(AUTHENTICATION, b"\xff\xff"), "authentication data: expected"),
    "another authentication length": (patched(AUTHENTICATION, b"\x21"), "kind of certification data: exp"),
    "encrypted PPID": (patched(CHAIN - 6, b"\x03"), "kind of certification data: expected 5, got 3"),
    "a short chain": (patched(CHAIN - 4, b"\x00\x00"), "bytes of certification data, got"),
}
DAMAGE_5: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an SGX report": (patched(48, b"\x01"), "kind of body: expected 2 or 3, got 1"),
    "an unknown report": (patched(48, b"\x04"), "kind of body: expected 2 or 3, got 4"),
    "a report 1.0 of another length": (patched(50, b"\x49"), "body length: expected 584, got 585"),
    "a report 1.0 called 1.5": (patched(48, b"\x03"), "body length: expected 648, got 584"),
    "version 4 with a body header": (patched(0, b"\x04"), "bytes of signature, got"),
}


class TestDamage:
    """The layout is exact."""

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_damage_is_malformed(self, tdx_world: TdxWorld, damage: str) -> None:
        change, reason = DAMAGE[damage]
        with pytest.raises(EvidenceMalformedError, match=r"\Aquote: .*" + reason):
            tdx_world.with_(quote=change(tdx_world.quote)).verify()

    @pytest.mark.parametrize("damage", DAMAGE_5)
    def test_damage_of_version_5_is_malformed(self, tdx_world: TdxWorld, damage: str) -> None:
        change, reason = DAMAGE_5[damage]
        quote = tdx_world.with_version(5).quote
        with pytest.raises(EvidenceMalformedError, match=r"\Aquote: .*" + reason):
            tdx_world.with_(quote=change(quote)).verify()

    @given(data=st.binary(max_size=1200))
    @settings(max_examples=60, deadline=None)
    def test_any_bytes_are_malformed(self, data: bytes) -> None:
        for head in (b"", encode_tdx_header(), encode_tdx_header(version=5)):
            with pytest.raises(EvidenceMalformedError):
                parse_tdx_quote(head + data)


class TestTrim:
    """Zeros behind a quote are cut where evidence is made, and nothing else ever is."""

    @pytest.mark.parametrize("padding", [0, 1, 70])
    def test_zeros_are_cut(self, tdx_world: TdxWorld, padding: int) -> None:
        for world in (tdx_world, tdx_world.with_version(5)):
            assert trim_tdx_quote(world.quote + bytes(padding)) == world.quote

    def test_anything_else_is_refused(self, tdx_world: TdxWorld) -> None:
        with pytest.raises(EvidenceMalformedError, match="expected nothing but zeros from byte"):
            trim_tdx_quote(tdx_world.quote + b"\x00\x01")

    def test_a_short_quote_is_refused(self, tdx_world: TdxWorld) -> None:
        with pytest.raises(EvidenceMalformedError, match="quote: signature: expected"):
            trim_tdx_quote(tdx_world.quote[:-1])


class TestSimulatedReport:
    """What the simulation is told to quote has the right sizes."""

    @pytest.mark.parametrize("name", sorted(set(FIELDS) - {"module_flags", "flags", "xfam", "registers"}))
    def test_a_field_of_another_length_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"TD report: {name}: expected"):
            TrustDomainReport(**{"service_td": bytes(48), **FIELDS, name: b"short"})

    def test_a_report_15_has_both_of_its_fields(self) -> None:
        with pytest.raises(
            ConfigurationError, match="TD report: current_tcb_svn: expected 16 bytes, got None"
        ):
            TrustDomainReport(**FIELDS | {"current_tcb_svn": None})

    def test_a_report_10_has_neither(self) -> None:
        with pytest.raises(ConfigurationError, match="TD report: current_tcb_svn: expected none"):
            TrustDomainReport(**FIELDS | {"service_td": None})

    @pytest.mark.parametrize("registers", [(bytes(48),) * 3, (bytes(48), bytes(48), bytes(48), b"")])
    def test_there_are_four_registers(self, registers: Any) -> None:
        with pytest.raises(ConfigurationError, match="TD report: registers: expected 4 of 48 bytes"):
            TrustDomainReport(**FIELDS | {"registers": registers})


class TestRealQuote:
    """A quote of a real processor is read and written again, byte for byte."""

    def test_it_is_rebuilt(self) -> None:
        folder = os.environ.get("S3ML_FIXTURES")
        if not folder:
            pytest.skip("S3ML_FIXTURES names no folder with quotes/tdx_quote")
        data = (Path(folder) / "quotes" / "tdx_quote").read_bytes()
        exact = trim_tdx_quote(data)
        assert (len(exact), data.strip(b"\x00")[-1:]) == (4936, b"\n")
        quote = parse_tdx_quote(exact)
        body = TrustDomainReport(**asdict(quote.domain)).encode()
        assert exact[48:SIGNED_4] == body
        again = rebuilt(quote)
        assert (len(again), exact[-1]) == (len(exact) - 1, 0)
        lengths = {SIGNED_4, CERTIFICATION + 2, CHAIN - 4}
        differing = {offset for offset, byte in enumerate(again) if byte != exact[offset]}
        assert differing <= lengths, "but for the NUL that ends the chain, and the lengths that count it"
