"""Each identity asks at a rate of its own; a flood of others, however fresh, takes nothing from it."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import verify_evidence
from s3ml.keyservice.errors import BusyError
from s3ml.keyservice.rates import (
    DEFAULTS,
    Limit,
    Outcome,
    Rate,
    RateLimits,
    Subject,
    TokenBucket,
    TooManyRequestsError,
    address_identity,
    enclave_identity,
)
from s3ml.primitives.errors import ConfigurationError
from tests.clocks import NOW
from tests.keyservice.keyservice_join_world import GENUINE, OTHER_CODE, Enclave
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, policy_of

PACE = Rate(per_s=1.0, burst=3)


class Limits:
    """Limits of every subject at one pace, and what they counted."""

    def __init__(self, *, rate: Rate = PACE, capacity: int = 8) -> None:
        self.counted: Counter[tuple[Subject, Outcome]] = Counter()
        limits = dict.fromkeys(Subject, Limit(rate=rate, capacity=capacity))
        self.limits = RateLimits(limits, now_s=0.0, count=self.count)

    def count(self, subject: Subject, outcome: Outcome) -> None:
        self.counted[subject, outcome] += 1

    def asks(self, identity: str, now_s: float, subject: Subject = Subject.ADDRESS) -> bool:
        try:
            self.limits.admit(subject, identity, now_s=now_s)
        except TooManyRequestsError:
            return False
        return True


@pytest.fixture
def limits() -> Limits:
    return Limits()


class TestBucket:
    def test_a_burst_and_then_its_pace(self) -> None:
        bucket = TokenBucket(PACE, now_s=0.0)
        assert [bucket.take(now_s=0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
        assert bucket.take(now_s=0.75) == 0.25
        assert bucket.take(now_s=1.0) == 0.0

    def test_a_rest_saves_no_more_than_a_burst(self) -> None:
        bucket = TokenBucket(PACE, now_s=0.0)
        bucket.take(now_s=0.0)
        assert not bucket.is_full(now_s=0.5)
        assert bucket.is_full(now_s=1.0)
        assert [bucket.take(now_s=1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]

    def test_a_clock_that_stands_or_turns_back_gives_nothing(self) -> None:
        bucket = TokenBucket(PACE, now_s=10.0)
        assert [bucket.take(now_s=at_s) for at_s in (10.0, 5.0, 10.0, 0.0)] == [0.0, 0.0, 0.0, 1.0]
        assert bucket.take(now_s=11.0) == 0.0

    @pytest.mark.parametrize(("per_s", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
    def test_a_rate_at_which_nothing_happens(self, per_s: float, burst: int) -> None:
        with pytest.raises(ConfigurationError, match="rate: expected more than 0 per second"):
            Rate(per_s=per_s, burst=burst)

    @settings(max_examples=200, deadline=None)
    @given(
        gaps=st.lists(st.floats(0, 3), max_size=60),
        per_s=st.floats(0.01, 50),
        burst=st.integers(1, 20),
    )
    def test_never_more_than_its_rate(self, gaps: list[float], per_s: float, burst: int) -> None:
        bucket, now_s, admitted = TokenBucket(Rate(per_s=per_s, burst=burst), now_s=0.0), 0.0, 0
        for gap_s in gaps:
            now_s += gap_s
            admitted += bucket.take(now_s=now_s) == 0.0
        assert admitted <= burst + now_s * per_s + 1e-6


class TestIdentities:
    def test_each_has_its_own(self, limits: Limits) -> None:
        assert [limits.asks("a", 0.0) for _ in range(4)] == [True, True, True, False]
        assert limits.asks("b", 0.0)
        assert limits.asks("a", 0.0, Subject.OWNER)

    def test_what_is_refused_says_when_to_come_again(self, limits: Limits) -> None:
        for _ in range(3):
            limits.asks("203.0.113.7", 0.0)
        with pytest.raises(TooManyRequestsError, match="this address asks too often") as caught:
            limits.limits.admit(Subject.ADDRESS, "203.0.113.7", now_s=0.5)
        assert (caught.value.retry_after_s, caught.value.subject) == (0.5, Subject.ADDRESS)
        assert isinstance(caught.value, BusyError)
        assert "203.0.113.7" not in str(caught.value)

    def test_any_text_is_an_identity(self, limits: Limits) -> None:
        for text in ("", "\ud800", "x" * 10**6, "\x00"):
            assert limits.asks(text, 0.0)

    def test_outcomes_are_counted_under_bounded_labels(self, limits: Limits) -> None:
        for who in range(50):
            limits.asks(f"{who}", 0.0)
        assert set(limits.counted) == {
            (Subject.ADDRESS, Outcome.ADMITTED),
            (Subject.ADDRESS, Outcome.SHARED),
            (Subject.ADDRESS, Outcome.REFUSED),
        }
        assert limits.counted[Subject.ADDRESS, Outcome.ADMITTED] == 8
        assert limits.counted[Subject.ADDRESS, Outcome.SHARED] == 3
        assert limits.counted.total() == 50


class TestFlood:
    """Fresh identities by the thousand."""

    def test_memory_is_bounded(self, limits: Limits) -> None:
        for who in range(1000):
            limits.asks(f"{who}", who / 1000)
        assert len(limits.limits) == 8

    def test_it_pushes_nobody_out(self, limits: Limits) -> None:
        """Whoever asks at their own pace goes on; whoever spent their burst does not get it back."""
        assert [limits.asks("spent", 0.0) for _ in range(4)] == [True, True, True, False]
        assert limits.asks("steady", 0.0)
        for who in range(1000):
            limits.asks(f"{who}", 0.0)
        assert not limits.asks("spent", 0.0)
        assert limits.asks("steady", 0.0)

    def test_it_gains_one_more_bucket_and_no_more(self, limits: Limits) -> None:
        admitted = sum(limits.asks(f"{who}", 0.0) for who in range(10_000))
        assert admitted == 8 + PACE.burst

    def test_newcomers_find_a_place_once_others_have_rested(self, limits: Limits) -> None:
        for who in range(100):
            limits.asks(f"{who}", 0.0)
        assert not limits.asks("newcomer", 0.0)
        assert [limits.asks("newcomer", 1.0) for _ in range(4)] == [True, True, True, False]

    def test_a_newcomer_amid_a_flood_that_goes_on_gets_through_in_time(self, limits: Limits) -> None:
        """It competes with twenty fresh identities at a time, in any order, for what is free."""
        order = random.Random(7)  # noqa: S311 - a test that repeats
        for who in range(100):
            limits.asks(f"before {who}", 0.0)
        for attempt in range(1, 100):
            asking = [f"{attempt} {who}" for who in range(20)] + ["newcomer"]
            order.shuffle(asking)
            if "newcomer" in [who for who in asking if limits.asks(who, float(attempt))]:
                return
        raise AssertionError("the newcomer was never admitted")

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_no_order_of_asking_gains_more_than_the_table_and_the_shared_bucket(self, data: Any) -> None:
        limits, now_s, admitted = Limits(capacity=3), 0.0, 0
        for _ in range(80):
            now_s += data.draw(st.sampled_from((0.0, 0.1, 1.0)))
            admitted += limits.asks(str(data.draw(st.integers(0, 9))), now_s)
        assert admitted <= (3 + 1) * (PACE.burst + now_s * PACE.per_s) + 1e-6
        assert len(limits.limits) <= 3


class TestDefaults:
    def test_every_subject_has_one(self) -> None:
        assert set(DEFAULTS) == set(Subject)
        RateLimits(now_s=0.0, count=lambda *_: None)

    def test_a_subject_without_one(self) -> None:
        some = {s: DEFAULTS[s] for s in (Subject.OWNER, Subject.SERVICE, Subject.ENCLAVE)}
        with pytest.raises(ConfigurationError, match="missing: address, joiner"):
            RateLimits(some, now_s=0.0, count=lambda *_: None)

    def test_nobody_has_a_bucket(self) -> None:
        with pytest.raises(ConfigurationError, match="capacity of at least 1, got 0"):
            Limit(rate=PACE, capacity=0)

    def test_a_scale_out_of_200_replicas_is_served_four_times_over(self) -> None:
        limits = RateLimits(now_s=0.0, count=lambda *_: None)
        for _ in range(800):
            limits.admit(Subject.ENCLAVE, "one build", now_s=0.0)
        with pytest.raises(TooManyRequestsError, match="this enclave"):
            limits.admit(Subject.ENCLAVE, "one build", now_s=0.0)


class TestWhoIsCounted:
    def test_an_enclave_by_its_code_and_platform(self) -> None:
        def identity(enclave: Enclave) -> str:
            verified = verify_evidence(
                enclave.quote(bytes(64)),
                policy_of(enclave.measurement),
                report_data=bytes(64),
                now=NOW,
            )
            return enclave_identity(verified)

        assert identity(GENUINE) == identity(Enclave(svn=1))
        assert identity(GENUINE) != identity(Enclave(measurement=OTHER_CODE))
        assert KEY_SERVICE_CODE.hex() in identity(GENUINE)

    @pytest.mark.parametrize(
        ("host", "identity"),
        [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("/run/socket", "/run/socket"),
            ("", ""),
        ],
    )
    def test_an_address_by_what_one_subscriber_has(self, host: str, identity: str) -> None:
        assert address_identity(host) == identity
