"""How often an identity may call."""

from s3ml.keyservice.documents import RateLimit
from s3ml.modelserver.rates import RateLimiter

RATE = RateLimit(per_s=2.0, burst=3)


def take(
    limiter: RateLimiter, who: bytes = b"ada", *, rule: str = "staff", now_s: float = 100.0
) -> float | None:
    return limiter.take(rule, who, RATE, now_s=now_s)


class TestBuckets:
    """A burst, and then a steady rate."""

    def test_a_burst_and_then_a_wait(self) -> None:
        limiter = RateLimiter()
        assert [take(limiter) for _ in range(4)] == [None, None, None, 0.5]

    def test_time_refills(self) -> None:
        limiter = RateLimiter()
        for _ in range(3):
            take(limiter)
        assert take(limiter, now_s=100.25) == 0.25
        assert take(limiter, now_s=100.5) is None
        assert take(limiter, now_s=100.5) == 0.5

    def test_a_refusal_costs_nothing(self) -> None:
        limiter = RateLimiter()
        for _ in range(50):
            take(limiter)
        assert take(limiter, now_s=100.5) is None

    def test_no_more_than_the_burst_gathers(self) -> None:
        limiter = RateLimiter()
        take(limiter)
        assert [take(limiter, now_s=9999.0) for _ in range(4)][-1] is not None

    def test_time_that_runs_backwards_gives_nothing(self) -> None:
        limiter = RateLimiter()
        for _ in range(3):
            take(limiter)
        assert take(limiter, now_s=0.0) == 0.5

    def test_identities_and_rules_are_apart(self) -> None:
        limiter = RateLimiter()
        for _ in range(4):
            take(limiter)
        assert take(limiter, b"bo") is None
        assert take(limiter, rule="others") is None


class TestBounds:
    """However many call, so much is remembered and no more."""

    def test_a_flood_of_identities(self) -> None:
        limiter = RateLimiter(capacity=100)
        for number in range(1000):
            assert take(limiter, b"%d" % number) is None
        assert len(limiter) == 100

    def test_whoever_calls_is_not_forgotten(self) -> None:
        limiter = RateLimiter(capacity=10)
        answers = []
        for number in range(20):
            answers.append(take(limiter))
            take(limiter, b"%d" % number)
        assert answers[:4] == [None, None, None, 0.5]
        assert None not in answers[3:]

    def test_rules_share_the_places(self) -> None:
        limiter = RateLimiter(capacity=10)
        limiter.follow(["staff", "others"])
        for number in range(50):
            take(limiter, b"%d" % number)
        assert len(limiter) == 5
        assert take(limiter, rule="others") is None

    def test_a_rule_that_is_gone_is_forgotten(self) -> None:
        limiter = RateLimiter(capacity=10)
        for number in range(10):
            take(limiter, b"%d" % number)
        limiter.follow(["staff", "others"])
        assert len(limiter) == 5
        limiter.follow([])
        assert len(limiter) == 0

    def test_a_rule_that_stays_keeps_count(self) -> None:
        limiter = RateLimiter()
        for _ in range(3):
            take(limiter)
        limiter.follow(["staff"])
        assert take(limiter) == 0.5
