"""How requests find a simulated server: Envoy's least request, as its documentation describes it."""

from collections import Counter
from random import Random

import pytest

from s3ml.simulator.steering import LeastRequest


def gateway_over(in_flight: list[int]) -> LeastRequest:
    return LeastRequest(in_flight, Random(5))  # noqa: S311 - a test that repeats


def places(in_flight: list[int], weights: list[int], count: int = 4000) -> Counter[int]:
    gateway = gateway_over(in_flight)
    gateway.weigh(weights)
    return Counter(gateway.place() for _ in range(count))


class TestEqualWeights:
    """Two are drawn, and the one with fewer requests in flight is taken."""

    def test_idle_hosts_get_the_same(self) -> None:
        found = places([0, 0, 0, 0], [7, 7, 7, 7])

        assert all(count == pytest.approx(1000, rel=0.15) for count in found.values())

    def test_the_busiest_is_taken_only_when_it_is_drawn_twice(self) -> None:
        found = places([9, 0, 0, 0], [1, 1, 1, 1])

        assert found[0] == pytest.approx(4000 / 16, rel=0.3)

    def test_a_single_host_gets_all(self) -> None:
        assert places([3], [1]) == {0: 4000}


class TestDifferentWeights:
    """Turns are taken in proportion to weight over requests in flight and one."""

    def test_idle_hosts_get_what_they_weigh(self) -> None:
        found = places([0, 0], [3, 1])

        assert found[0] == pytest.approx(3000, abs=2)

    def test_requests_in_flight_count_against_it(self) -> None:
        found = places([2, 0], [300, 101])

        assert found[0] / found[1] == pytest.approx(100 / 101, rel=0.02)

    def test_new_weights_begin_a_new_schedule(self) -> None:
        gateway = gateway_over([0, 0])
        gateway.weigh([9, 1])
        first = Counter(gateway.place() for _ in range(1000))
        gateway.weigh([1, 9])
        second = Counter(gateway.place() for _ in range(1000))

        assert first[0] == pytest.approx(900, abs=2)
        assert second[0] == pytest.approx(100, abs=2)
