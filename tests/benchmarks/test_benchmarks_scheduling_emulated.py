"""A slice of the emulated experiments on this machine: one node, one small model server, one antagonist.

Real sealed requests through a real Envoy into an emulated EPC. Nothing here looks at how fast anything is.
"""

from collections.abc import Iterator

import pytest

from benchmarks.scheduling import ranker
from benchmarks.scheduling.emulated_nodes import Shape, Site
from benchmarks.scheduling.emulated_runs import Ask, measure
from benchmarks.scheduling.processor_share import CONTROLLER
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB
from s3ml.tee_memory.emulated import Host, check_host
from tests.tee_memory.emulated_machine import machine_alone, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SHAPE = Shape(nodes=1, replicas=1, cores=1.0, epc_bytes=96 * MIB, antagonist_bytes=8 * MIB, layers=1)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One node, up for all tests of this file."""
    try:
        check_host(Host())
    except ConfigurationError as error:
        pytest.skip(str(error))
    if not (CONTROLLER / "cpu.cfs_quota_us").exists():
        pytest.skip("the processor controller of cgroup version 1 is not mounted")
    with machine_alone():
        with Site(SHAPE, is_quiet=True) as site:
            yield site
        assert not site.nodes[0].epc.group().is_there
        assert not list(CONTROLLER.glob(f"s3ml-{site.nodes[0].epc.name}*"))
        assert not any(replica.child.is_running for replica in site.replicas)


class TestEmulatedNode:
    """Requests are sealed, go through Envoy, and are answered by a process inside the emulated EPC."""

    def test_who_answers_is_the_replica_of_the_node(self, site: Site) -> None:
        """On a machine that is too busy Envoy finds it unhealthy for a while: then another run is made."""
        load = site.start_load()
        for seed in range(100):
            ask = Ask(rate_per_s=20.0, cv=1.0, lasting_s=1.0, warmup_s=0.0, seed=seed)
            found = measure(site, load, ask, watch_every_s=0.1)
            if found.latencies_s:
                break

        assert {one.replica for one in found.answers if one.ended_s is not None} == {"n0-r0"}
        assert len(found.answers) == found.sent
        assert {one.node for one in found.seen} == {"n0"}

    def test_an_antagonist_pages_in_an_epc_that_is_too_small(self, site: Site) -> None:
        node = site.nodes[0]
        node.epc.resize(8 * MIB)
        before = node.source.count().page_ins or 0

        node.disturb(4.0)
        wait_until("pages come back", lambda: (node.source.count().page_ins or 0) > before + 100)
        node.disturb(0)

        node.epc.resize(SHAPE.epc_bytes)
        assert (node.source.count().evicted_bytes or 0) > 0


class TestRanker:
    """The model that is served is as large as it says, and does not compress."""

    def test_its_working_set_grows_by_its_layers(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        sizes = [ranker.write(tmp_path_factory.mktemp("model"), layers).stat().st_size for layers in (1, 2)]

        assert sizes[1] - sizes[0] == pytest.approx(4 * MIB, rel=0.01)
