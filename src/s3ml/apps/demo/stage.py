"""What the steps of the demonstration share: a folder, progress, times, counts."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from s3ml.client import AsyncClient, Client

Progress = Callable[[str, float | None], None]


@dataclass(slots=True, kw_only=True)
class Stage:
    """What the steps hand on to each other."""

    work: Path
    progress: Progress
    durations: dict[str, float] = field(default_factory=dict)
    client_retries: int = 0
    refreshes: int = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Time a step and show that it is under way."""
        self.progress(title, 0.0)
        began = time.perf_counter()
        yield
        self.durations[title] = round(time.perf_counter() - began, 3)
        self.progress(title, 1.0)

    def count(self, client: Client | AsyncClient) -> None:
        """Add up what a client had to repeat."""
        self.client_retries += client.statistics.retries
        self.refreshes += client.statistics.refreshes
