"""What is due, in the order of time: the clock of a simulation.

Time is a number that only grows; nothing here sleeps or looks at a clock. What is due at one instant happens
in the order in which it was planned, so that a run is the same each time.
"""

import heapq
from collections.abc import Callable
from typing import Any

_Action = Callable[[Any], None]


class Agenda:
    """Actions with the instants at which they are due."""

    __slots__ = ("_due", "_number", "now_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, _Action, Any]] = []
        self._number = 0

    def plan(self, due_s: float, action: _Action, argument: Any = None) -> None:
        """Have `action` called with `argument` at an instant; one that is past is now."""
        self._number += 1
        heapq.heappush(self._due, (due_s, self._number, action, argument))

    def run(self, is_over: Callable[[], bool]) -> None:
        """Do what is due, one after the other, until `is_over` or nothing is left."""
        due, pop = self._due, heapq.heappop
        while due and not is_over():
            due_s, _, action, argument = pop(due)
            self.now_s = max(self.now_s, due_s)
            action(argument)
