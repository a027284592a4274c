"""Two counts make a reading."""

import math

import pytest

from s3ml.tee_memory import Confidence, Counts, Kind, Reading, compare
from s3ml.tee_memory.reading import complete


class Plain:
    kind = Kind.SIMULATED
    name = "counts"

    def count(self) -> Counts:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing was set up."""


def read(before: Counts | None, now: Counts) -> Reading:
    return compare(Plain(), before, now)


class TestRates:
    """What was counted between two instants, in a second."""

    def test_a_first_reading_has_none(self) -> None:
        reading = read(None, Counts(taken_at_s=5, page_ins=9, page_outs=9, stalled_s=9, evicted_bytes=4096))

        assert (reading.page_ins_per_s, reading.page_outs_per_s, reading.pressure) == (None, None, None)
        assert (reading.evicted_bytes, reading.span_s) == (4096, 0)

    def test_they_are_differences_over_the_span(self) -> None:
        before = Counts(taken_at_s=5, page_ins=100, page_outs=50, stalled_s=1)
        reading = read(before, Counts(taken_at_s=7, page_ins=300, page_outs=50, stalled_s=1.5))

        assert (reading.page_ins_per_s, reading.page_outs_per_s, reading.pressure) == (100, 0, 0.25)

    def test_a_count_that_began_anew_shows_what_it_has(self) -> None:
        reading = read(Counts(taken_at_s=5, page_ins=1000), Counts(taken_at_s=6, page_ins=30))

        assert reading.page_ins_per_s == 30

    def test_what_is_not_counted_has_no_rate(self) -> None:
        assert read(Counts(taken_at_s=5), Counts(taken_at_s=6)).page_ins_per_s is None

    def test_no_time_no_rate(self) -> None:
        same = Counts(taken_at_s=5, page_ins=1)

        assert read(same, same).page_ins_per_s is None

    def test_pressure_is_a_share(self) -> None:
        assert read(Counts(taken_at_s=5, stalled_s=0), Counts(taken_at_s=6, stalled_s=3)).pressure == 1.0


class TestAge:
    """How old a reading is, and whether it can be true."""

    def test_it_grows_and_is_never_negative(self) -> None:
        reading = read(None, Counts(taken_at_s=5))

        assert (reading.age_s(8), reading.age_s(4)) == (3, 0)

    @pytest.mark.parametrize(
        "counts",
        [
            Counts(taken_at_s=6, evicted_bytes=-1),
            Counts(taken_at_s=6, stalled_s=math.nan),
        ],
    )
    def test_absurd_figures_show(self, counts: Counts) -> None:
        before = Counts(taken_at_s=5, evicted_bytes=0, stalled_s=0)

        assert not read(before, counts).is_sane

    def test_sane_ones_too(self) -> None:
        now = Counts(taken_at_s=6, page_ins=1, capacity_bytes=5, confidence=Confidence.INFERRED)
        reading = read(Counts(taken_at_s=5, page_ins=0), now)

        assert (reading.is_sane, reading.confidence) == (True, Confidence.INFERRED)


class TestCompletion:
    """What a node's source does not know is the sum of what its servers' know."""

    @staticmethod
    def reading(confidence: Confidence = Confidence.COUNTED, **figures: float | None) -> Reading:
        values = dict.fromkeys(("capacity_bytes", "resident_bytes", "evicted_bytes"), None)
        rates = dict.fromkeys(("page_ins_per_s", "page_outs_per_s", "pressure"), None)
        return Reading(
            kind=Kind.SGX,
            source="test",
            taken_at_s=1,
            span_s=1,
            confidence=confidence,
            **{**values, **rates, **figures},  # type: ignore[arg-type]
        )

    def test_evicted_bytes_are_added(self) -> None:
        servers = [self.reading(evicted_bytes=4096), self.reading(evicted_bytes=8192), self.reading()]

        assert complete(self.reading(page_ins_per_s=5), servers) == self.reading(
            page_ins_per_s=5, evicted_bytes=12288
        )

    def test_what_is_counted_stays(self) -> None:
        node = self.reading(page_ins_per_s=5, evicted_bytes=1)

        assert complete(node, [self.reading(page_ins_per_s=9, evicted_bytes=9)]) == node

    def test_a_blind_node_is_inferred_from_its_servers(self) -> None:
        servers = [self.reading(page_ins_per_s=2, page_outs_per_s=1), self.reading(page_ins_per_s=3)]

        assert complete(self.reading(Confidence.BLIND), servers) == self.reading(
            Confidence.INFERRED, page_ins_per_s=5, page_outs_per_s=1
        )

    def test_without_servers_it_stays_blind(self) -> None:
        node = self.reading(Confidence.BLIND)

        assert complete(node, []) == complete(node, [self.reading()]) == node
