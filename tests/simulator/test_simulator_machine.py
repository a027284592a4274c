"""Cores and paths that jobs share."""

from collections.abc import Callable

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.machine import Machine, Node


class Site:
    """A machine with nodes, and when each job ended."""

    def __init__(self, *, cores: float, nodes: int = 1) -> None:
        self.agenda = Agenda()
        self.nodes = [Node(f"n{number}", capacity=100, page_s=0.01) for number in range(nodes)]
        self.machine = Machine(self.agenda, cores=cores, nodes=self.nodes)
        self.ended: dict[str, float] = {}

    def at(self, due_s: float, action: Callable[[], None]) -> None:
        self.agenda.plan(due_s, lambda _: action())

    def compute(self, name: str, work_s: float, node: int = 0) -> None:
        self.machine.compute(self.nodes[node], work_s, self._end, name)

    def page(self, name: str, pages: float, node: int = 0) -> None:
        self.machine.page(self.nodes[node], pages, self._end, name)

    def run(self) -> dict[str, float]:
        self.agenda.run(lambda: False)
        return {name: round(at_s, 6) for name, at_s in self.ended.items()}

    def _end(self, name: str) -> None:
        self.ended[name] = self.agenda.now_s


class TestCores:
    """Each job has a core while there are enough, and an equal part of them when there are not."""

    def test_as_many_jobs_as_cores_do_not_slow_each_other(self) -> None:
        site = Site(cores=2)
        site.compute("a", 1.0)
        site.compute("b", 2.0)

        assert site.run() == {"a": 1.0, "b": 2.0}

    def test_more_jobs_than_cores_share_them(self) -> None:
        site = Site(cores=1)
        site.compute("a", 1.0)
        site.at(0.5, lambda: site.compute("b", 1.0))

        assert site.run() == {"a": 1.5, "b": 2.0}

    def test_a_hog_takes_its_part_while_it_is_there(self) -> None:
        site = Site(cores=1)
        site.machine.hog(3)
        site.compute("a", 1.0)
        site.at(2.0, lambda: site.machine.hog(-3))

        assert site.run() == {"a": 2.5}

    def test_nodes_of_one_machine_share_its_cores_and_page_on_them(self) -> None:
        site = Site(cores=1, nodes=2)
        site.compute("a", 1.0, node=0)
        site.page("b", 100, node=1)

        assert site.run() == {"a": 2.0, "b": 2.0}


class TestPaths:
    """Pages of one node come one after the other, whoever asked for them."""

    def test_a_page_takes_its_time(self) -> None:
        site = Site(cores=4)
        site.page("a", 50)

        assert site.run() == {"a": 0.5}

    def test_two_that_page_lengthen_each_other(self) -> None:
        site = Site(cores=4)
        site.page("a", 50)
        site.page("b", 100)

        assert site.run() == {"a": 1.0, "b": 1.5}

    def test_paths_of_different_nodes_do_not(self) -> None:
        site = Site(cores=4, nodes=2)
        site.page("a", 50, node=0)
        site.page("b", 50, node=1)

        assert site.run() == {"a": 0.5, "b": 0.5}


class TestCounts:
    """What was used is counted where it was used."""

    def test_busy_and_stalled_time_are_those_of_the_jobs(self) -> None:
        site = Site(cores=2, nodes=2)
        site.compute("a", 1.0, node=0)
        site.page("b", 25, node=1)
        site.run()
        site.machine.advance()

        assert [round(node.busy_s, 6) for node in site.nodes] == [1.0, 0.25]
        assert [round(node.stalled_s, 6) for node in site.nodes] == [0.0, 0.25]

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="more than 0 cores"):
            Machine(Agenda(), cores=0, nodes=[])
        with pytest.raises(ConfigurationError, match="a page to take more than 0 s"):
            Node("n", capacity=1, page_s=0)
