"""One run of an emulated experiment: load and a schedule of disturbances at the same time, and what was seen.

While it lasts a thread looks at the nodes four times a second or more: paging, evicted bytes, processor time,
requests in flight.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.scheduling import load as load_process
from benchmarks.scheduling.children import Child
from benchmarks.scheduling.emulated_nodes import Node, Site
from benchmarks.seal_server import SERVICE
from benchmarks.serving.processes import usage
from s3ml.primitives.errors import UnavailableError

_MARGIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The load of one run.

    Args:
        rate_per_s: Requests in a second.
        cv: Of the gaps between them.
        lasting_s: For how long requests are sent, warming up included.
        warmup_s: Requests that are meant to be sent before this are answered and not counted.
        seed: Of the arrivals.
    """

    rate_per_s: float
    cv: float
    lasting_s: float
    warmup_s: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request of a run, in seconds from its beginning; `ended_s` is None where nobody answered."""

    intended_s: float
    ended_s: float | None
    replica: str

    @property
    def latency_s(self) -> float | None:
        """From the intended instant."""
        return None if self.ended_s is None else self.ended_s - self.intended_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A node at one instant of a run.

    Args:
        at_s: From the beginning of the run.
        node: Its name.
        page_ins: Of all that run there, since some beginning.
        server_page_ins: Of its model servers alone.
        evicted_bytes: What is out.
        in_flight: Requests that its model servers have not answered.
        processor_s: Processor time of its model servers since their beginning.
    """

    at_s: float
    node: str
    page_ins: int
    server_page_ins: int
    evicted_bytes: int
    in_flight: int
    processor_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a run.

    Args:
        answers: One for each request that counts, by its intended instant.
        failures: What those that nobody answered met with.
        pages: Pages that model servers brought back while requests counted.
        late_ms: How late the 99th percentile of the requests was sent: the load's own fault.
        seen: The nodes, over time.
    """

    answers: list[Answer]
    failures: list[str]
    pages: int
    late_ms: float
    seen: list[Seen]

    @property
    def latencies_s(self) -> list[float]:
        """Of those that were answered."""
        return [one.latency_s for one in self.answers if one.latency_s is not None]

    @property
    def unanswered(self) -> int:
        """How many nobody answered."""
        return sum(one.ended_s is None for one in self.answers)


@dataclass(slots=True)
class Watch:
    """Looks at nodes from a thread of its own.

    Args:
        site: Whose nodes.
        every_s: From one look to the next.
    """

    site: Site
    every_s: float
    seen: list[Seen] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)

    def run(self, began_s: float) -> None:
        """Look until `end`; at fixed times from the monotonic instant `began_s` on."""
        due_s = began_s
        while not self._ending.wait(max(0.0, due_s - time.monotonic())):
            in_flight = self._in_flight()
            at_s = time.monotonic() - began_s
            self.seen += [look(node, at_s, in_flight) for node in self.site.nodes]
            due_s = max(due_s + self.every_s, time.monotonic())

    def end(self) -> None:
        """Make `run` return."""
        self._ending.set()

    def _in_flight(self) -> dict[str, int]:
        try:
            return {up.address: up.in_flight for up in self.site.gateway.replicas(SERVICE)}
        except UnavailableError:  # the admin interface was too slow this time
            return {}


def look(node: Node, at_s: float, in_flight: dict[str, int]) -> Seen:
    """Look at one node now."""
    counts = node.source.count()
    return Seen(
        at_s=at_s,
        node=node.name,
        page_ins=counts.page_ins or 0,
        server_page_ins=node.server_page_ins(),
        evicted_bytes=counts.evicted_bytes or 0,
        in_flight=sum(in_flight.get(replica.address, 0) for replica in node.replicas),
        processor_s=_processor_s([replica.child.pid for replica in node.replicas]),
    )


def measure(
    site: Site,
    load: Child,
    ask: Ask,
    *,
    disturbances: Sequence[tuple[float, Callable[[], None]]] = (),
    watch_every_s: float = 0.25,
) -> Run:
    """Make the load of `ask`, do each disturbance at its time, and return what came of it.

    Args:
        site: What is measured.
        load: The process that makes the load.
        ask: Which load.
        disturbances: What to do at which second of the run, in order.
        watch_every_s: How often nodes are looked at.
    """
    load.say(
        json.dumps(
            {
                "rate_per_s": ask.rate_per_s,
                "cv": ask.cv,
                "lasting_s": ask.lasting_s,
                "seed": ask.seed,
            }
        )
    )
    assert load.hear(deadline_s=_MARGIN_S) == load_process.BEGUN
    began_s = time.monotonic()
    watch = Watch(site, watch_every_s)
    watching = threading.Thread(target=watch.run, args=(began_s,), daemon=True)
    watching.start()
    try:
        for at_s, act in disturbances:
            time.sleep(max(0.0, began_s + at_s - time.monotonic()))
            act()
        found = load.hear_document(deadline_s=ask.lasting_s + load_process.GRACE_S + _MARGIN_S)
    finally:
        watch.end()
        watching.join()
    return run_of(found, watch.seen, warmup_s=ask.warmup_s)


def run_of(found: dict[str, Any], seen: list[Seen], *, warmup_s: float) -> Run:
    """Return a run from what the load says and what the watch saw; pure."""
    sent = [row for row in found["sent"] if row[0] >= warmup_s]
    answers = [Answer(intended_s=row[0], ended_s=row[2], replica=row[3]) for row in sent]
    late_s = sorted(row[1] for row in sent)
    return Run(
        answers=answers,
        failures=found["failures"],
        pages=_pages(seen, warmup_s),
        late_ms=round(1e3 * late_s[int(0.99 * (len(late_s) - 1))], 3) if late_s else 0.0,
        seen=seen,
    )


def _pages(seen: Sequence[Seen], since_s: float) -> int:
    """Return the pages that model servers brought back from `since_s` on."""
    by_node: dict[str, list[int]] = {}
    for one in seen:
        if one.at_s >= since_s:
            by_node.setdefault(one.node, []).append(one.server_page_ins)
    return sum(counts[-1] - counts[0] for counts in by_node.values())


def _processor_s(pids: list[int]) -> float:
    used = usage(pids)
    return used.user_s + used.system_s
