"""Honest worlds of every format that a quote can have."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from s3ml.attestation import Technology
from tests.attestation.corpus.entries import honest_worlds

FORMATS = ("SGX", "TDX 1.0", "TDX 1.5", "SEV-SNP")


@cache
def formats() -> Mapping[str, Any]:
    """Return an honest world for each of `FORMATS`."""
    honest: Any = honest_worlds()
    tdx = honest[Technology.TDX]
    worlds = (honest[Technology.SGX], tdx, tdx.with_report_15(), honest[Technology.SEV_SNP])
    return dict(zip(FORMATS, worlds, strict=True))
