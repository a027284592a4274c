"""Who disturbs a simulated node, and what is left once they are gone."""

import pytest

from s3ml.simulator import Episode
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.antagonists import Antagonist
from s3ml.simulator.machine import Machine, Node


class Site:
    """One node on one machine, with a server's set in its memory."""

    def __init__(self, episode: Episode) -> None:
        self.agenda = Agenda()
        self.node = Node("n", capacity=1000, page_s=1e-5)
        self.node.memory.add("server", 800, is_loaded=True)
        self.machine = Machine(self.agenda, cores=2, nodes=[self.node])
        Antagonist(name="hog", episode=episode, agenda=self.agenda, machine=self.machine, node=self.node)

    def run_until(self, end_s: float) -> None:
        self.agenda.plan(end_s, lambda _: None)
        self.agenda.run(lambda: self.agenda.now_s >= end_s)


class TestMemory:
    """One that sweeps memory pushes others out, and pages while it does not fit."""

    def test_it_takes_what_is_free_without_pushing_anybody_out(self) -> None:
        site = Site(Episode(node=0, begins_s=1.0, ends_s=9.0, pages=150))
        site.run_until(8.0)

        assert site.node.memory.resident_of("server") == pytest.approx(800)
        assert site.node.memory.page_outs == pytest.approx(0, abs=1e-6)

    def test_it_pushes_others_out_where_it_does_not_fit(self) -> None:
        site = Site(Episode(node=0, begins_s=1.0, ends_s=9.0, pages=600))
        site.run_until(0.9)
        assert site.node.memory.resident_of("server") == 800
        site.run_until(8.0)

        assert site.node.memory.resident_of("server") < 700
        assert site.node.memory.resident == pytest.approx(1000)

    def test_it_frees_everything_when_it_goes(self) -> None:
        site = Site(Episode(node=0, begins_s=1.0, ends_s=2.0, pages=600))
        site.run_until(3.0)
        paged = site.node.memory.page_ins
        site.run_until(6.0)

        assert site.node.memory.resident == site.node.memory.resident_of("server")
        assert site.node.memory.page_ins == paged

    def test_it_pages_no_faster_than_it_sweeps(self) -> None:
        site = Site(Episode(node=0, begins_s=0.0, ends_s=99.0, pages=2000, sweeps_per_s=2))
        site.run_until(10.0)

        assert site.node.memory.page_ins == pytest.approx(2000 * 2 * 10, rel=0.05)

    def test_it_pages_no_faster_than_the_path_carries(self) -> None:
        site = Site(Episode(node=0, begins_s=0.0, ends_s=99.0, pages=2000, sweeps_per_s=1000))
        site.run_until(10.0)
        site.machine.advance()

        assert site.node.memory.page_ins < 100_000 * 10
        assert site.node.stalled_s > 7


class TestCores:
    """One that uses cores slows what computes beside it."""

    def test_it_uses_them_from_its_beginning_to_its_end(self) -> None:
        site = Site(Episode(node=0, begins_s=1.0, ends_s=2.0, cores=2))
        ended: list[float] = []
        for _ in range(2):
            site.machine.compute(site.node, 2.0, lambda _: ended.append(site.agenda.now_s), None)
        site.run_until(9.0)

        assert [round(at_s, 6) for at_s in ended] == [2.5, 2.5]
        assert site.machine.hogs == 0
