"""The TEE memory of a simulated node: whose pages are in it, and which a touch brings back.

What is missing of a set when it is touched is brought back, and takes the place of pages of others, in
proportion to what each has there: the mean of a random replacement. From this follows, and is not put in,
that pages per request grow near-linearly once the sets no longer fit, that a set which rests is pushed out,
and that the first requests after somebody left are the slow ones.
"""

from s3ml.primitives.errors import ConfigurationError


class Memory:
    """Pages of several sets in a memory of one capacity; counts what goes in and out.

    Figures are pages, as fractions too: they are means.
    """

    __slots__ = ("_resident", "_sizes", "capacity", "page_ins", "page_outs")

    def __init__(self, capacity: float) -> None:
        """Begin empty.

        Raises:
            ConfigurationError: `capacity` is not positive.
        """
        if not capacity > 0:
            raise ConfigurationError(f"memory: expected a capacity above 0 pages, got {capacity}")
        self.capacity = capacity
        self.page_ins = 0.0
        self.page_outs = 0.0
        self._sizes: dict[str, float] = {}
        self._resident: dict[str, float] = {}

    @property
    def resident(self) -> float:
        """Pages that are in the memory."""
        return sum(self._resident.values())

    @property
    def evicted(self) -> float:
        """Pages that would be in the memory if there were room."""
        return sum(self._sizes.values()) - self.resident

    def resident_of(self, name: str) -> float:
        """Return how much of a set is in the memory."""
        return self._resident[name]

    def add(self, name: str, pages: float, *, is_loaded: bool = False) -> None:
        """Add a set; `is_loaded` puts it in without counting, as before the beginning."""
        self._sizes[name] = pages
        self._resident[name] = 0.0
        if is_loaded:
            self._resident[name] = min(pages, self.capacity)
            self._make_room(name)

    def remove(self, name: str) -> None:
        """Forget a set; its pages are free."""
        del self._sizes[name], self._resident[name]

    def resize(self, capacity: float) -> None:
        """Change the capacity; where it shrinks, all lose in proportion."""
        self.capacity = capacity
        resident = self.resident
        if resident > capacity:
            for name, pages in self._resident.items():
                self._resident[name] = pages * capacity / resident
            self.page_outs += resident - capacity

    def touch(self, name: str, share: float = 1.0) -> float:
        """Touch a share of a set's pages, drawn evenly; return how many had to be brought back.

        A set larger than the memory keeps nothing of what it touched first: all of it is brought back each
        time.
        """
        size, resident = self._sizes[name], self._resident[name]
        if size > self.capacity:
            missing = size * share
            self._resident[name] = min(self.capacity, resident + missing)
        else:
            missing = (size - resident) * share
            if missing <= 0:
                return 0.0
            self._resident[name] = resident + missing
        self.page_ins += missing
        self.page_outs += max(0.0, missing - (self._resident[name] - resident)) + self._make_room(name)
        return missing

    def _make_room(self, keeper: str) -> float:
        resident = self.resident
        excess = resident - self.capacity
        if excess <= 0:
            return 0.0
        others = resident - self._resident[keeper]
        kept = max(0.0, 1 - excess / others)
        for name in self._resident:
            if name != keeper:
                self._resident[name] *= kept
        return excess
