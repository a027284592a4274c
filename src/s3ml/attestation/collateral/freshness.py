"""How old collateral may be: when it is asked for anew, and when it no longer serves.

Pure. Two limits: past the soft one an item still serves while a newer one is asked for; past the hard one, or
its own next update, it does not serve at all.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from s3ml.attestation.collateral.item import Inquiry, Proven
from s3ml.attestation.policy.alternative import DEFAULT_MAX_COLLATERAL_AGE_S, DEFAULT_MAX_CRL_AGE_S
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import DAY_S

DEFAULT_REFRESH_AFTER_S = DAY_S


class State(Enum):
    """What may be done with an item that is at hand."""

    FRESH = "use it"
    STALE = "use it, and ask for a newer one"
    EXPIRED = "do not use it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The limits of a client.

    Args:
        refresh_after_s: The soft one, in seconds since a source last said that an item is current. By
            default a day: Intel signs anew daily.
        max_age_s: The hard one, in seconds since TCB info, QE identity or the PCK revocation list were
            issued; never above what the verifiers' policies tolerate. By default theirs, 30 days.
        max_crl_age_s: The same for AMD's revocation list, by default 400 days, since AMD renews it yearly.

    Raises:
        ConfigurationError: a limit is not positive, or the soft one is above a hard one.
    """

    refresh_after_s: float = DEFAULT_REFRESH_AFTER_S
    max_age_s: float = DEFAULT_MAX_COLLATERAL_AGE_S
    max_crl_age_s: float = DEFAULT_MAX_CRL_AGE_S

    def __post_init__(self) -> None:
        if not 0 < self.refresh_after_s <= min(self.max_age_s, self.max_crl_age_s):
            raise ConfigurationError(
                "collateral: expected 0 < refresh_after_s <= max_age_s and max_crl_age_s, got "
                f"{self.refresh_after_s:g}, {self.max_age_s:g} and {self.max_crl_age_s:g}"
            )


def judge(proven: Proven, inquiry: Inquiry, now: datetime) -> State:
    """Say what may be done with `proven` at `now` (aware UTC).

    A confirmation in the future, from a clock that was turned back since, counts as none.
    """
    proof = proven.proof
    age_s = (now - proof.issued_at).total_seconds()
    if age_s < 0 or now >= proof.valid_until:
        return State.EXPIRED
    if inquiry.max_age_s is not None and age_s > inquiry.max_age_s:
        return State.EXPIRED
    if inquiry.refresh_after_s is None:
        return State.FRESH
    confirmed_s = (now - proven.item.confirmed_at).total_seconds()
    return State.FRESH if 0 <= confirmed_s <= inquiry.refresh_after_s else State.STALE


def explain_expired(proven: Proven, inquiry: Inquiry, now: datetime) -> str:
    """Say in one line why `proven` does not serve at `now`."""
    issued, until = proven.proof.issued_at, proven.proof.valid_until
    if issued <= now < until:
        return f"expected one of at most {inquiry.max_age_s:g} s, got one issued {issued.isoformat()}"
    got = f"one valid from {issued.isoformat()} until {until.isoformat()}"
    return f"expected one valid at {now.isoformat()}, got {got}"
