"""How often one identity may call: a token bucket each, in tables of bounded size.

Each rule has a table of its own, so that the callers of one rule never push out another's. A full table
forgets whoever called least recently: to gain a burst by that, a caller needs as many identities as the table
has places, each of which has a burst anyway.
"""

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock

from s3ml.keyservice.documents import RateLimit

# About 200 bytes each.
DEFAULT_CAPACITY = 1 << 16


class RateLimiter:
    """The buckets of everybody who called a short while ago; for one process, whatever rules it gets.

    Args:
        capacity: How many identities are remembered at most, over all rules.
    """

    __slots__ = ("_capacity", "_lock", "_share", "_tables")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._share = capacity
        self._tables: dict[str, OrderedDict[bytes, tuple[float, float]]] = {}
        self._lock = Lock()

    def follow(self, rules: Iterable[str]) -> None:
        """Keep the tables of `rules`, names of rules with a rate, and share the places out among them."""
        with self._lock:
            self._tables = {rule: self._tables.get(rule, OrderedDict()) for rule in rules}
            self._share = max(1, self._capacity // max(1, len(self._tables)))
            for table in self._tables.values():
                self._shorten(table)

    def take(self, rule: str, identity: bytes, rate: RateLimit, *, now_s: float) -> float | None:
        """Count one call.

        Args:
            rule: The rule's name.
            identity: Who calls, of a few bytes.
            rate: The rule's.
            now_s: Monotonic.

        Returns:
            None where the call may go on, or the seconds after which another attempt may.
        """
        with self._lock:
            table = self._tables.setdefault(rule, OrderedDict())
            left, at_s = table.pop(identity, (float(rate.burst), now_s))
            left = min(float(rate.burst), left + max(0.0, now_s - at_s) * rate.per_s)
            is_allowed = left >= 1.0
            table[identity] = (left - 1.0 if is_allowed else left, now_s)
            self._shorten(table)
            return None if is_allowed else (1.0 - left) / rate.per_s

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables.values())

    def _shorten(self, table: OrderedDict[bytes, tuple[float, float]]) -> None:
        while len(table) > self._share:
            table.popitem(last=False)
