"""What a quote claims before anything is proven, for people who read evidence."""

import msgspec
import pytest

from s3ml.attestation import EvidenceMalformedError
from s3ml.attestation.verify.claimed import claimed_report_data
from tests.attestation.attestation_world import REPORT_DATA
from tests.attestation.fuzz.formats import FORMATS, formats

ENDS = {"SGX": 48 + 384, "TDX 1.0": 48 + 584, "TDX 1.5": 48 + 6 + 584, "SEV-SNP": 0x50 + 64}


@pytest.mark.parametrize("name", FORMATS)
class TestReportData:
    """It stands where the format has it, whether or not a signature holds."""

    def test_it_is_found(self, name: str) -> None:
        assert claimed_report_data(formats()[name].evidence) == REPORT_DATA

    def test_a_quote_that_ends_before_it_is_malformed(self, name: str) -> None:
        evidence = formats()[name].evidence
        short = msgspec.structs.replace(evidence, quote=evidence.quote[: ENDS[name] - 1])
        with pytest.raises(
            EvidenceMalformedError, match=rf"at least {ENDS[name]} bytes, got {ENDS[name] - 1}"
        ):
            claimed_report_data(short)
