"""docs/architecture.md, "Defaults of time": each number is the code's."""

from pathlib import Path

import pytest

from s3ml.client.trust import DEFAULT_MAX_AGE_S
from s3ml.client.trusting import RENEW_AT_FRACTION
from s3ml.keyservice import audit, challenges, epochs, generations, membership, service, upkeep
from s3ml.keyservice.documents import ServiceTimes
from s3ml.keyservice.escrow import intake
from s3ml.keyservice.joining import session, source
from s3ml.modelserver.lease import RENEWAL_SHARE
from s3ml.wire.sealed.replay import DEFAULT_WINDOW_S

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLE = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.split("## Defaults of time")[1].split("\n\n")[1].splitlines()[2:]
]
TIMES = ServiceTimes()
LEASE_S = upkeep.REPLICA_LEASE_S


def told(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 1 else f"{seconds:g} s"


CLIENT_RENEWAL_S = RENEW_AT_FRACTION * TIMES.bundle_s
MODEL_SERVER_RENEWAL_S = RENEWAL_SHARE * TIMES.lease_s
LEAST = "at the least"
ROWS = (
    (
        "trust bundle",
        told(TIMES.bundle_s),
        f"at {told(CLIENT_RENEWAL_S)}",
        told(TIMES.bundle_s - CLIENT_RENEWAL_S),
    ),
    (
        "lease of a model server",
        told(TIMES.lease_s),
        f"at {told(MODEL_SERVER_RENEWAL_S)}",
        told(TIMES.lease_s - MODEL_SERVER_RENEWAL_S),
    ),
    ("lease of a replica", told(LEASE_S), f"at {told(upkeep.PRESENCE_S)}", told(LEASE_S - upkeep.PRESENCE_S)),
    ("epoch (", told(TIMES.epoch_s), "one lease before its end", ""),
    ("pending epoch", told(TIMES.lease_s), "", "a whole lease"),
    ("draining epoch", told(TIMES.bundle_s + epochs.REQUEST_S), "", f"({told(epochs.REQUEST_S)})"),
    ("generation", told(generations.LIFETIME.total_seconds()), "", ""),
    ("presence", told(LEASE_S), f"at {told(upkeep.PRESENCE_S)}", told(LEASE_S - upkeep.PRESENCE_S)),
    ("challenge", told(challenges.LIFETIME_S), "", ""),
    ("join, and the offer", told(session.JOIN_LIFETIME_S), "", ""),
    ("request for recovery shares", told(intake.LIFETIME_S), "", "two days"),
    ("releases that wait", f"{told(audit.PERIOD_S)}, {audit.BATCH} records", "", f"{audit.CAPACITY:,} wait"),
    ("what each replica looks for", told(membership.PERIOD_S), "", ""),
    ("`Date` window", f"± {told(DEFAULT_WINDOW_S)}", "", ""),
    ("statement batch", told(service.BATCH_WINDOW_S), "", ""),
)


class TestTable:
    @pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
    def test_the_row_says_what_the_code_does(self, row: tuple[str, str, str, str]) -> None:
        what, default, renewed, survives = row
        (found,) = (cells for cells in TABLE if cells[0].startswith(what))
        assert found[1] == default
        assert found[2].startswith(renewed)
        assert survives in found[3]

    def test_there_is_no_other_row(self) -> None:
        assert len(TABLE) == len(ROWS)

    def test_an_offer_lasts_as_long_as_a_join(self) -> None:
        assert source.OFFER_LIFETIME_S == session.JOIN_LIFETIME_S

    def test_a_client_verifies_as_often_as_its_key_service_allows(self) -> None:
        assert TIMES.bundle_s == DEFAULT_MAX_AGE_S
