"""Times of answers from counters, and from each request."""

import pytest

from s3ml.scheduling.balancer.timing import CountedTiming, SampledTiming


def sampled(*samples: tuple[float, int, int, int], window_s: float = 2.0) -> SampledTiming:
    timing = SampledTiming(window_s)
    for at_s, in_flight, succeeded, failed in samples:
        timing.sample(at_s, in_flight=in_flight, succeeded=succeeded, failed=failed)
    return timing


class TestSampled:
    """Little's law: the mean in flight over the rate of answers."""

    def test_nothing_is_known_at_first(self) -> None:
        timing = sampled((0, 0, 0, 0)).at(0)
        assert (timing.latency_s, timing.service_s, timing.answered_at_s) == (None, None, None)
        assert (timing.oldest_s, timing.error_share) == (0, 0)

    def test_the_mean_in_flight_over_the_rate(self) -> None:
        """Always 4 in flight and 20 answers a second are 0.2 s each; it worked all the time: 0.05 s each."""
        timing = sampled(*((at / 5, 4, 4 * at, 0) for at in range(11))).at(2)
        assert timing.latency_s == pytest.approx(0.2)
        assert timing.service_s == pytest.approx(0.05)
        assert timing.rate_rps == pytest.approx(20)

    def test_what_is_idle_adds_nothing(self) -> None:
        timing = sampled((0, 0, 0, 0), (1, 1, 0, 0), (2, 0, 1, 0)).at(2)
        assert timing.latency_s == pytest.approx(1.0)

    def test_only_the_window_counts(self) -> None:
        timing = sampled((0, 9, 0, 0), (1, 9, 1, 0), (2, 1, 2, 0), (3, 1, 12, 0), (4, 1, 22, 0), window_s=2)
        assert timing.at(4).latency_s == pytest.approx(0.1)

    def test_one_that_hangs_looks_slow(self) -> None:
        """Without an answer it has taken at least as long as it was watched."""
        timing = sampled((0, 1, 0, 0), (1, 1, 0, 0), (2, 1, 0, 0)).at(2)
        assert timing.latency_s == pytest.approx(2.0)
        assert timing.oldest_s == pytest.approx(2.0)

    def test_the_last_latency_stays_while_nothing_happens(self) -> None:
        timing = sampled((0, 1, 0, 0), (1, 1, 5, 0), (2, 0, 5, 0), (4, 0, 5, 0), (8, 0, 5, 0))
        assert timing.at(8).latency_s == timing.at(3).latency_s is not None
        assert timing.at(8).answered_at_s == 1

    def test_errors_are_a_share_of_the_answers(self) -> None:
        assert sampled((0, 0, 0, 0), (1, 0, 3, 1)).at(1).error_share == pytest.approx(0.25)

    def test_counters_that_begin_anew_begin_a_window(self) -> None:
        timing = sampled((0, 1, 100, 3), (1, 1, 110, 3), (2, 1, 0, 0), (3, 1, 10, 0)).at(3)
        assert timing.latency_s == pytest.approx(0.1)
        assert timing.error_share == 0

    def test_a_sample_of_the_same_instant_changes_nothing(self) -> None:
        timing = sampled((0, 1, 0, 0), (1, 1, 10, 0))
        before = timing.at(1)
        timing.sample(1, in_flight=50, succeeded=90, failed=0)
        assert timing.at(1) == before


class TestCounted:
    """A picker knows when each request began and ended."""

    def test_nothing_is_known_at_first(self) -> None:
        assert CountedTiming().at(5).latency_s is None

    def test_answers_of_the_window_count(self) -> None:
        timing = CountedTiming()
        for key in range(3):
            timing.began(key, 0)
        for key, at_s in enumerate((1, 2, 4)):
            timing.ended(key, at_s, is_answered=True, is_error=key == 0)
        found = timing.at(4)
        assert found.latency_s == pytest.approx(3.0)
        assert found.error_share == 0  # The first one is out of the window.
        assert found.service_s == pytest.approx(1.5)
        assert found.rate_rps == pytest.approx(1.0)
        assert found.answered_at_s == 4

    def test_one_that_was_given_up_says_nothing(self) -> None:
        timing = CountedTiming()
        timing.began(1, 0)
        assert timing.in_flight == 1
        timing.ended(1, 50, is_answered=False)
        assert (timing.in_flight, timing.at(50).latency_s) == (0, None)

    def test_an_end_without_a_beginning_counts_nothing(self) -> None:
        timing = CountedTiming()
        timing.ended(7, 1, is_answered=True)
        assert (timing.in_flight, timing.at(1).latency_s) == (0, None)

    def test_the_oldest_is_the_first_that_has_not_ended(self) -> None:
        timing = CountedTiming()
        timing.began(1, 0)
        timing.began(2, 4)
        assert timing.at(10).oldest_s == 10
        timing.ended(1, 10, is_answered=True)
        assert timing.at(10).oldest_s == 6

    def test_memory_is_bounded(self) -> None:
        timing = CountedTiming(window_s=1e9)
        for key in range(5000):
            timing.began(key, key)
            timing.ended(key, key + 0.5, is_answered=True)
        assert len(timing._answers) <= 1024
        assert timing.at(5000).latency_s == pytest.approx(0.5)
