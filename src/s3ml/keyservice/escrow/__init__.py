"""Shares of the wrapping key for k of n holders: made, asked for, given, and combined inside a TEE.

Never of epoch keys: they live under generation keys, which no share gives back.
"""

from s3ml.keyservice.escrow.collector import Collector, Findings, Progress
from s3ml.keyservice.escrow.intake import RecoveryIntake, Standing
from s3ml.keyservice.escrow.rehearsal import try_wrapping_key
from s3ml.keyservice.escrow.shares import SHARES_NAME, make_shares, read_shares, stored_shares
from s3ml.keyservice.escrow.terms import RecoveryTerms, judge_recovery, warn_about_terms

__all__ = [
    "SHARES_NAME",
    "Collector",
    "Findings",
    "Progress",
    "RecoveryIntake",
    "RecoveryTerms",
    "Standing",
    "judge_recovery",
    "make_shares",
    "read_shares",
    "stored_shares",
    "try_wrapping_key",
    "warn_about_terms",
]
