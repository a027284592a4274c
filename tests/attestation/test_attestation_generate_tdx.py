"""Evidence of a TDX trust domain."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from s3ml.attestation import Attester, EvidenceMalformedError, Tee, verify_evidence
from s3ml.attestation.generate import TdxAttester
from s3ml.attestation.generate.tdx import AREA_LIMIT_BYTES, read_event_log, trim_quote
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.tdx_event_log import encode_event_log, measured_event
from s3ml.attestation.simulated.tdx_quote import render_tdx_quote
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.attestation_world import NOW, REPORT_DATA
from tests.attestation.fakes.sources import FakeCollateral
from tests.attestation.fakes.tsm import FakeTsm
from tests.attestation.tdx_world import EVENTS, TdxWorld, honest_domain

OTHER = hashlib.sha512(b"another request").digest()
LOG = encode_event_log(EVENTS)


@pytest.fixture(scope="module")
def tdx(pki: SimulatedPKI) -> TdxWorld:
    return TdxWorld.honest(pki)


@pytest.fixture
def tsm(pki: SimulatedPKI) -> FakeTsm:
    return FakeTsm(
        "tdx_guest", lambda inblob, _level: render_tdx_quote(pki, honest_domain(report_data=inblob))
    )


@pytest.fixture
def ccel(tmp_path: Path) -> Path:
    """The area of 64 KiB that firmware reserves, with a log at its beginning."""
    path = tmp_path / "CCEL"
    path.write_bytes(LOG.ljust(65536, b"\xff"))
    return path


@pytest.fixture
def attester(tsm: FakeTsm, ccel: Path, tdx: TdxWorld) -> TdxAttester:
    return TdxAttester(tsm.root, ccel, FakeCollateral(collateral=tdx.collateral))


class TestQuote:
    """Evidence is this trust domain's, with the log of what it measured."""

    @pytest.mark.parametrize("report_data", [REPORT_DATA, OTHER])
    def test_the_verifier_accepts_it(self, attester: Attester, tdx: TdxWorld, report_data: bytes) -> None:
        evidence = attester.quote(report_data)
        assert (attester.tee, evidence.tee, evidence.event_log) == (Tee.TDX, Tee.TDX, LOG)
        simulated = msgspec.structs.replace(evidence, tee=Tee.SIMULATED, simulates=tdx.evidence.simulates)
        verified = verify_evidence(simulated, tdx.policy, report_data=report_data, now=NOW)
        assert verified.is_simulated

    def test_a_guest_of_sev_snp_is_refused(self, attester: Attester, tsm: FakeTsm) -> None:
        tsm.provider = "sev_guest"
        with pytest.raises(ConfigurationError, match="expected tdx_guest"):
            attester.quote(REPORT_DATA)

    def test_collateral_is_asked_for_this_quote(self, tsm: FakeTsm, ccel: Path, tdx: TdxWorld) -> None:
        source = FakeCollateral(collateral=tdx.collateral)
        evidence = TdxAttester(tsm.root, ccel, source).quote(REPORT_DATA)
        assert source.quotes == [evidence.quote]

    def test_without_collateral_there_is_no_evidence(self, tsm: FakeTsm, ccel: Path) -> None:
        with pytest.raises(UnavailableError, match="no endpoint answers"):
            TdxAttester(tsm.root, ccel, FakeCollateral()).quote(REPORT_DATA)

    def test_a_quote_that_nobody_can_read_is_unavailable(self, tsm: FakeTsm, ccel: Path) -> None:
        source = FakeCollateral(failure=EvidenceMalformedError("quote: version: expected 4, got 9"))
        with pytest.raises(UnavailableError, match=r"^TDX: quote: version: expected 4, got 9$"):
            TdxAttester(tsm.root, ccel, source).quote(REPORT_DATA)

    def test_a_quote_for_another_request_is_refused(self, attester: Attester, tsm: FakeTsm) -> None:
        honest = tsm.reporting
        tsm.reporting = lambda _inblob, level: honest(OTHER, level)
        with pytest.raises(
            UnavailableError, match="TDX: quote: expected the report data that were asked for"
        ):
            attester.quote(REPORT_DATA)

    def test_what_a_host_leaves_of_its_buffer_is_cut(self, attester: Attester, tsm: FakeTsm) -> None:
        honest = tsm.reporting
        tsm.reporting = lambda inblob, level: honest(inblob, level).ljust(20_000, b"\0")
        assert len(attester.quote(REPORT_DATA).quote) == len(honest(REPORT_DATA, 0))

    def test_a_quote_too_large_is_refused(self, attester: Attester, tsm: FakeTsm) -> None:
        tsm.reporting = lambda _inblob, _level: b"\x01" * 16385
        with pytest.raises(UnavailableError, match="TDX: quote: expected at most 16384 bytes, got 16385"):
            attester.quote(REPORT_DATA)

    def test_what_passes_is_waited_for(self, tsm: FakeTsm, ccel: Path, tdx: TdxWorld) -> None:
        pauses: list[float] = []
        tsm.reporting = lambda _inblob, _level: b""
        source = FakeCollateral(collateral=tdx.collateral)
        with pytest.raises(UnavailableError, match="an empty report"):
            TdxAttester(tsm.root, ccel, source, pause=pauses.append).quote(REPORT_DATA)
        assert len(pauses) == 4


class TestTrimming:
    """Zeros behind a quote are the buffer's, not the quote's."""

    @pytest.mark.parametrize("version", [4, 5])
    def test_zeros_behind_it_are_cut(self, pki: SimulatedPKI, version: int) -> None:
        quote = render_tdx_quote(pki, honest_domain(), version=version)
        assert trim_quote(quote) == quote
        assert trim_quote(quote + bytes(3000)) == quote

    @pytest.mark.parametrize("version", [4, 5])
    def test_anything_else_stays(self, pki: SimulatedPKI, version: int) -> None:
        quote = render_tdx_quote(pki, honest_domain(), version=version)
        for odd in (quote + b"\0\1", quote[:-1], quote[:20], b""):
            assert trim_quote(odd) == odd


class TestEventLog:
    """The log is cut where its last complete event ends."""

    @pytest.mark.parametrize("filler", [b"\xff", b"\x00"])
    def test_the_unused_end_is_cut(self, tmp_path: Path, filler: bytes) -> None:
        path = tmp_path / "CCEL"
        path.write_bytes(LOG + filler * 5000)
        assert read_event_log(path) == LOG

    def test_without_a_table_there_is_no_log(self, attester: Attester, ccel: Path) -> None:
        ccel.unlink()
        assert attester.quote(REPORT_DATA).event_log is None

    def test_what_is_no_log_is_unavailable(self, attester: Attester, ccel: Path) -> None:
        ccel.write_bytes(LOG + b"\x01" + bytes(100))
        with pytest.raises(UnavailableError, match="TDX: event log: "):
            attester.quote(REPORT_DATA)

    def test_a_log_too_large_for_evidence_is_unavailable(self, ccel: Path) -> None:
        ccel.write_bytes(encode_event_log([measured_event(0, b"large" * 2000)] * 5))
        with pytest.raises(UnavailableError, match="event log: expected at most 49152 bytes, got"):
            read_event_log(ccel)

    def test_an_area_too_large_is_not_read(self, ccel: Path) -> None:
        ccel.write_bytes(bytes(AREA_LIMIT_BYTES + 1))
        with pytest.raises(UnavailableError, match="event log: expected at most 1048576 bytes, got more"):
            read_event_log(ccel)

    def test_a_table_that_cannot_be_read_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="TDX: event log: Is a directory"):
            read_event_log(tmp_path)


class TestSealingKey:
    def test_there_is_none(self, attester: Attester) -> None:
        with pytest.raises(UnavailableError, match="TDX: expected a sealing key, got none"):
            attester.sealing_key()
