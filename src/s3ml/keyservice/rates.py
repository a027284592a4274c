"""How often something may happen, and how often for whom: token buckets, pure given the time.

A table of buckets is bounded, and holds everybody who asked of late. Whoever has rested until their bucket is
full again can be forgotten without gaining anything, and nobody else is: a flood of fresh identities pushes
out nobody who asks at their own pace. Where the table is full of others, newcomers share one bucket until
there is a place.

An identity counts after it was verified, so that nobody spends another's rate; an address is verified by
nothing and so counts coarsely, before anything else.

Source: docs/spec/rates.md.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from s3ml.attestation import VerifiedEnclave
from s3ml.keyservice.errors import BusyError
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.errors import ConfigurationError

_IPV6_PREFIX_BITS = 64  # what one subscriber has at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something may happen.

    Args:
        per_s: In the long run, times per second.
        burst: At once, after a rest.

    Raises:
        ConfigurationError: it would never happen.
    """

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ConfigurationError(
                f"rate: expected more than 0 per second and a burst of at least 1, got {self.per_s} "
                f"and {self.burst}"
            )


class TokenBucket:
    """Counts what happens against a rate; begins full.

    Args:
        rate: How often it may.
        now_s: Monotonic.
    """

    __slots__ = ("_rate", "_tokens", "_updated_s")

    def __init__(self, rate: Rate, *, now_s: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._updated_s = now_s

    def take(self, *, now_s: float) -> float:
        """Take a token where there is one.

        Returns:
            0.0 where it was taken; otherwise after how many seconds there is one.
        """
        self._fill(now_s)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate.per_s

    def is_full(self, *, now_s: float) -> bool:
        """Whether nothing happened for so long that this bucket is as good as a new one."""
        self._fill(now_s)
        return self._tokens >= self._rate.burst

    def _fill(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._updated_s)
        self._tokens = min(float(self._rate.burst), self._tokens + passed_s * self._rate.per_s)
        self._updated_s = max(self._updated_s, now_s)


class Subject(StrEnum):
    """Whose asking is counted."""

    OWNER = "owner"
    ENCLAVE = "enclave"
    JOINER = "joiner"
    SERVICE = "service"
    ADDRESS = "address"


class Outcome(StrEnum):
    """What became of a question: admitted, admitted out of the newcomers' bucket, or refused."""

    ADMITTED = "admitted"
    SHARED = "shared"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The limit of one subject.

    Args:
        rate: Of each identity.
        capacity: How many identities have a bucket of their own at once; about 300 bytes each.

    Raises:
        ConfigurationError: nobody would have one.
    """

    rate: Rate
    capacity: int

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ConfigurationError(f"rate: expected a capacity of at least 1, got {self.capacity}")


# The reason of each number is in docs/spec/rates.md.
DEFAULTS: Mapping[Subject, Limit] = MappingProxyType(
    {
        Subject.OWNER: Limit(rate=Rate(per_s=1.0, burst=32), capacity=256),
        Subject.ENCLAVE: Limit(rate=Rate(per_s=100.0, burst=800), capacity=4096),
        Subject.JOINER: Limit(rate=Rate(per_s=1.0, burst=12), capacity=256),
        Subject.SERVICE: Limit(rate=Rate(per_s=4000.0, burst=8000), capacity=1024),
        Subject.ADDRESS: Limit(rate=Rate(per_s=5000.0, burst=10000), capacity=16384),
    }
)


class TooManyRequestsError(BusyError):
    """One identity asks too often; others are served. An edge answers 429 with Retry-After.

    Args:
        subject: Whose rate is spent; which of them is not told.
        retry_after_s: After how many seconds one more question is answered.
    """

    def __init__(self, subject: Subject, *, retry_after_s: float) -> None:
        super().__init__(f"key service: this {subject} asks too often", retry_after_s=retry_after_s)
        self.subject = subject


class _Table:
    """The buckets of one subject, the least recently used first."""

    __slots__ = ("_buckets", "_limit", "_newcomers")

    def __init__(self, limit: Limit, *, now_s: float) -> None:
        self._limit = limit
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self._newcomers = TokenBucket(limit.rate, now_s=now_s)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, identity: bytes, *, now_s: float) -> tuple[float, bool]:
        """Return after how many seconds `identity` may go on, 0.0 at once, and whether it has a bucket."""
        bucket = self._buckets.get(identity)
        if bucket is not None:
            self._buckets.move_to_end(identity)
            return bucket.take(now_s=now_s), True
        if len(self._buckets) >= self._limit.capacity and not self._forget_rested(now_s):
            return self._newcomers.take(now_s=now_s), False
        bucket = self._buckets[identity] = TokenBucket(self._limit.rate, now_s=now_s)
        return bucket.take(now_s=now_s), True

    def _forget_rested(self, now_s: float) -> bool:
        """Forget whoever asked least recently, where their bucket is full again; tell whether it was."""
        identity, bucket = next(iter(self._buckets.items()))
        if not bucket.is_full(now_s=now_s):
            return False
        del self._buckets[identity]
        return True


class RateLimits:
    """How often each identity may ask; for one thread.

    Args:
        limits: Of every subject.
        now_s: Monotonic.
        count: Told of every outcome, as labels for a counter: five subjects, three outcomes.

    Raises:
        ConfigurationError: a subject has no limit.
    """

    def __init__(
        self,
        limits: Mapping[Subject, Limit] = DEFAULTS,
        *,
        now_s: float,
        count: Callable[[Subject, Outcome], None],
    ) -> None:
        if missing := sorted(set(Subject) - limits.keys()):
            raise ConfigurationError(
                f"rates: expected a limit of every subject, missing: {', '.join(missing)}"
            )
        self._tables = {subject: _Table(limit, now_s=now_s) for subject, limit in limits.items()}
        self._count = count

    def admit(self, subject: Subject, identity: str, *, now_s: float) -> None:
        """Count one question.

        Args:
            subject: Whose rate it is.
            identity: Verified, but for an address; of any length.
            now_s: Monotonic.

        Raises:
            TooManyRequestsError: the rate is spent.
        """
        key = tagged_sha256("S3ML rate identity v1", identity.encode(errors="surrogatepass"))
        wait_s, is_own = self._tables[subject].take(key, now_s=now_s)
        if wait_s:
            self._count(subject, Outcome.REFUSED)
            raise TooManyRequestsError(subject, retry_after_s=wait_s)
        self._count(subject, Outcome.ADMITTED if is_own else Outcome.SHARED)

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables.values())


def enclave_identity(enclave: VerifiedEnclave) -> str:
    """Return whom an enclave's questions count for: the same code on the same kind and state of platform.

    Evidence of SGX and TDX names no single machine in what is proven; so all replicas of one build on
    platforms of one state share a rate, which is sized for that.
    """
    return f"{enclave.tee}/{enclave.technology}/{enclave.measurement}/{enclave.platform}"


def address_identity(host: str) -> str:
    """Return whom the questions from an address count for: an IPv4 address, or the /64 of an IPv6 one.

    What is no address, such as the path of a socket, counts as it is.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX_BITS), strict=False))
