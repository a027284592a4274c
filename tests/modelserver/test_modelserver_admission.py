"""Places and bytes: a body that arrives slowly keeps them from nobody."""

import pytest

from s3ml.modelserver.admission import GRACE_S, SLOWEST_BYTES_PER_S, Admission, OverloadedError


class TestSlowBodies:
    """A body that arrives slowly makes place for others, and only then."""

    def admission(self, now: list[float], *, requests: int = 2, budget_bytes: int = 100) -> Admission:
        return Admission(budget_bytes=budget_bytes, max_requests=requests, monotonic_s=lambda: now[0])

    @pytest.mark.parametrize("wanted", ["a request", "bytes"])
    def test_the_slow_one_goes(self, wanted: str) -> None:
        now, gone = [0.0], list[str]()
        admission = self.admission(now, requests=2 if wanted == "a request" else 9)
        with admission.reserve() as slow, admission.reserve() as whole:
            whole.grow_to(10)
            slow.grow_to(40)
            with slow.arriving(lambda: gone.append("slow")):
                now[0] = GRACE_S + 0.1
                with admission.reserve() as new:
                    new.grow_to(20)
                    assert gone == ["slow"]
                    assert (slow.size_bytes, whole.size_bytes) == (0, 20)
        assert admission.in_flight == 0
        with admission.reserve() as all_of_it:
            all_of_it.grow_to(50)

    @pytest.mark.parametrize(
        ("age_s", "arrived_bytes"), [(GRACE_S - 0.1, 0), (GRACE_S + 1, SLOWEST_BYTES_PER_S + 1)]
    )
    def test_the_others_stay(self, age_s: float, arrived_bytes: int) -> None:
        now = [0.0]
        admission = self.admission(now, requests=1)
        with admission.reserve() as reservation, reservation.arriving(pytest.fail):
            reservation.count_arrived(arrived_bytes)
            now[0] = age_s
            with pytest.raises(OverloadedError), admission.reserve():
                pass

    def test_nobody_goes_whose_place_is_not_needed(self) -> None:
        now = [0.0]
        admission = self.admission(now)
        with admission.reserve() as reservation, reservation.arriving(pytest.fail):
            now[0] = 1e6
            with admission.reserve() as other:
                other.grow_to(50)
