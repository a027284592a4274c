"""What a balancer knows of simulated servers is what happened to them."""

from random import Random

import pytest

from s3ml.simulator.agenda import Agenda
from s3ml.simulator.machine import Machine, Node
from s3ml.simulator.serving import Request, Server, Work
from s3ml.simulator.watching import Watch


class Site:
    """Two servers on one node, watched."""

    def __init__(self, *, is_picking: bool) -> None:
        self.agenda = Agenda()
        node = Node("n", capacity=1000, page_s=1e-5)
        machine = Machine(self.agenda, cores=2, nodes=[node])
        self.servers = [
            Server(
                number=number,
                name=f"s{number}",
                machine=machine,
                node=node,
                work=Work(compute_s=0.1),
                slots=1,
                draw=Random(number),  # noqa: S311 - a test that repeats
                answered=self._answered,
            )
            for number in range(2)
        ]
        self.watch = Watch(self.agenda, self.servers, is_picking=is_picking)

    def send(self, place: int) -> None:
        request = Request(self.agenda.now_s)
        self.watch.sent(request, place)
        self.servers[place].take(request)

    def _answered(self, request: Request) -> None:
        self.watch.answered(request)

    def run_until(self, end_s: float) -> None:
        self.agenda.plan(end_s, lambda _: None)
        self.agenda.run(lambda: self.agenda.now_s >= end_s)


class TestCounts:
    """In flight, answered and waiting are as they are at the moment."""

    def test_requests_in_flight_are_those_that_were_sent_and_not_answered(self) -> None:
        site = Site(is_picking=True)
        for _ in range(3):
            site.send(0)

        assert [one.in_flight for one in site.watch.view().replicas] == [3, 0]
        site.run_until(0.25)
        assert [one.in_flight for one in site.watch.view().replicas] == [1, 0]

    def test_latency_waits_with_the_queue_and_service_does_not(self) -> None:
        site = Site(is_picking=True)
        for _ in range(3):
            site.send(0)
        site.run_until(0.35)
        busy, idle = site.watch.view().replicas

        assert busy.latency_s == pytest.approx((0.1 + 0.2 + 0.3) / 3)
        assert busy.service_s == pytest.approx(0.1)
        assert idle.latency_s is None

    def test_the_oldest_request_ages_though_nothing_happens(self) -> None:
        site = Site(is_picking=True)
        site.send(1)
        site.run_until(0.08)

        assert site.watch.view().replicas[1].oldest_s == pytest.approx(0.08, abs=0.021)


class TestTurns:
    """Views count on, and remember the step before."""

    def test_turns_count_by_one(self) -> None:
        site = Site(is_picking=True)

        assert [site.watch.view().turn for _ in range(3)] == [0, 1, 2]

    def test_what_a_step_decided_is_in_the_next_view(self) -> None:
        site = Site(is_picking=False)
        site.watch.settle({"s0": 0.75, "s1": 0.25})

        assert site.watch.view().previous == {"s0": 0.75, "s1": 0.25}


class TestSamples:
    """Where shares steer, times come from samples of the gateway's counts."""

    def test_latency_is_known_after_two_samples_with_answers_between(self) -> None:
        site = Site(is_picking=False)
        site.watch.sample()
        site.send(0)
        site.run_until(0.05)
        site.watch.sample()
        site.run_until(0.2)
        site.watch.sample()

        assert site.watch.view().replicas[0].latency_s is not None
        assert site.watch.view().replicas[1].latency_s is None
