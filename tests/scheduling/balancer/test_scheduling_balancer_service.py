"""One step after the other: what is looked at, what the gateway is told, what is said of it."""

import asyncio
import json

import pytest

from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.scheduling.balancer.events import Event, EventLog
from s3ml.scheduling.balancer.fleet import Host
from s3ml.scheduling.balancer.membership import Member, Membership
from s3ml.scheduling.balancer.policies import policy_named
from s3ml.scheduling.balancer.ports import NodeReport
from s3ml.scheduling.balancer.settings import BalancerSettings, Steering
from s3ml.scheduling.balancer.view import Reason, Replica, Shares, View
from s3ml.scheduling.balancer.weights import MEAN_WEIGHT, weights
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import assumed_curve
from tests.clocks import FakeClock
from tests.scheduling.fakes import AGENTS, A, B, host, make_world, reading


class TestWeights:
    """Shares become whole numbers around a hundred."""

    def test_a_fair_share_is_the_mean(self) -> None:
        view = View(
            now_s=0,
            replicas=tuple(Replica(name=name, node="n", is_ready=name != "c") for name in "abc"),
        )
        shares = Shares(share={"a": 0.995, "b": 0.001}, reasons={})
        assert weights(view, shares) == {"a": 199, "b": 1, "c": MEAN_WEIGHT}

    def test_without_shares_nobody_gets_nothing(self) -> None:
        view = View(now_s=0, replicas=(Replica(name="a", node="n", is_ready=True),))
        assert weights(view, Shares(share={}, reasons={})) == {"a": 1}


class TestStep:
    async def test_the_gateway_is_told_what_the_policy_says(self) -> None:
        world = make_world()
        await world.balancer.step()
        assert [(told.address, told.node, told.weight) for told in world.gateway.told["t"]] == [
            (A.address, "n1", 180),
            (B.address, "n2", 20),
        ]
        assert world.balancer.has_looked.is_set()

    async def test_what_did_not_change_is_not_told_again(self) -> None:
        world = make_world()
        for _ in range(3):
            await world.balancer.step()
        assert world.gateway.writes == 1

    async def test_the_next_view_shows_the_shares_of_the_last(self) -> None:
        world = make_world()
        await world.balancer.step()
        assert world.balancer.fleets["t"].view(0).previous == pytest.approx({"a": 0.9, "b": 0.1})

    async def test_a_gateway_that_is_down_changes_nothing(self) -> None:
        """It is said once, and found again once; the step before holds."""
        world = make_world()
        await world.balancer.step()
        world.gateway.is_down = True
        for _ in range(3):
            await world.balancer.step()
        assert world.balancer.status().is_gateway_lost
        assert world.gateway.writes == 1
        world.gateway.is_down = False
        await world.balancer.step()
        assert (world.has_said("gateway-lost"), world.has_said("gateway-found")) == (1, 1)

    async def test_nothing_was_looked_at_while_the_gateway_is_down(self) -> None:
        world = make_world()
        world.gateway.is_down = True
        await world.balancer.step()
        assert not world.balancer.has_looked.is_set()


class TestMembershipFile:
    async def test_it_is_followed(self) -> None:
        world = make_world()
        await world.balancer.step()
        c = Member(name="c", node="n1", address="127.0.0.1:3")
        world.membership[0] = Membership(services={"t": (B, c)}, agents=AGENTS)
        world.gateway.found["t"] = [host(B), host(c)]
        await world.balancer.step()
        assert [told.address for told in world.gateway.told["t"]] == [B.address, c.address]
        assert b'replica="a"' not in world.balancer.metrics.render()

    async def test_the_last_good_one_holds(self) -> None:
        world = make_world()
        world.membership[0] = ConfigurationError("membership: is broken")
        for _ in range(3):
            await world.balancer.step()
        assert len(world.gateway.told["t"]) == 2
        assert world.has_said("membership-rejected") == 1

    def test_without_any_there_is_no_balancer(self) -> None:
        world = make_world()
        with pytest.raises(ConfigurationError, match="policy: expected one of first, last, got 'none'"):
            world.balancer.switch("none")

    async def test_a_service_that_left_is_forgotten(self) -> None:
        world = make_world()
        await world.balancer.step()
        world.membership[0] = Membership(services={}, agents={})
        await world.balancer.step()
        assert world.balancer.status().services == ()
        assert world.balancer.status().nodes == ()


class TestAgents:
    async def test_their_readings_are_seen(self) -> None:
        world = make_world()
        now_s = world.clock.monotonic_s()
        for url in AGENTS.values():
            world.agents.answers[url] = NodeReport(reading=reading(now_s), servers={"a": reading(now_s)})
        await world.balancer.read_agents()
        world.clock.advance(3)
        await world.balancer.step()
        assert [(node.node, node.age_s) for node in world.balancer.status().nodes] == [("n1", 3), ("n2", 3)]
        assert world.balancer.fleets["t"].view(0).replicas[0].own == reading(now_s)

    @pytest.mark.parametrize("error", [None, UntrustedPeerError("readings: malformed")])
    async def test_one_that_fails_is_told_once_and_grows_old(self, error: Exception | None) -> None:
        world = make_world()
        one, other = AGENTS.values()
        world.agents.answers[one] = NodeReport(reading=reading(world.clock.monotonic_s()), servers={})
        world.agents.answers[other] = NodeReport(reading=reading(world.clock.monotonic_s()), servers={})
        await world.balancer.read_agents()
        if error is None:
            del world.agents.answers[other]
        else:
            world.agents.answers[other] = error
        for _ in range(3):
            world.clock.advance(1)
            await world.balancer.read_agents()
        assert world.has_said("agent-lost") == 1
        assert {node.node: node.age_s for node in world.balancer.status().nodes} == {"n1": 3, "n2": 3}
        assert 's3ml_balancer_agent_failures_total{node="n2"} 3.0' in world.balancer.metrics.render().decode()
        world.agents.answers[other] = NodeReport(reading=reading(world.clock.monotonic_s()), servers={})
        await world.balancer.read_agents()
        assert world.has_said("agent-found") == 1

    async def test_falling_back_and_steering_again_are_told(self) -> None:
        world = make_world()
        await world.balancer.step()
        assert world.balancer.status().services[0].is_fallback
        for url in AGENTS.values():
            world.agents.answers[url] = NodeReport(reading=reading(world.clock.monotonic_s()), servers={})
        await world.balancer.read_agents()
        await world.balancer.step()
        assert (world.has_said("falling-back"), world.has_said("steering-again")) == (1, 1)


class TestLearning:
    async def test_what_servers_page_for_their_answers_corrects_the_curve(self) -> None:
        world = make_world()
        policy = policy_named("s3ml", Model(curve=assumed_curve(1000 * 4096)))
        world.balancer._policy = policy
        await world.balancer.step()
        assert world.balancer.policy == policy
        world.clock.advance(1)
        now_s = world.clock.monotonic_s()
        answered = [
            Host(address=one.address, is_ready=True, in_flight=1, succeeded=20, failed=0) for one in (A, B)
        ]
        world.gateway.found["t"] = answered
        for url in AGENTS.values():
            report = NodeReport(reading=reading(now_s), servers={"a": reading(now_s), "b": reading(now_s)})
            world.agents.answers[url] = report
        await world.balancer.read_agents()
        await world.balancer.step()
        assert world.balancer.policy != policy
        assert world.balancer.policy.name == "s3ml"


class TestSwitching:
    async def test_the_next_step_is_the_other_policys(self) -> None:
        world = make_world()
        await world.balancer.step()
        world.balancer.switch("last")
        await world.balancer.step()
        assert world.balancer.status().policy == "last"
        assert world.has_said("policy-switched") == 1


class TestRunning:
    async def test_both_loops_run_until_cancelled(self) -> None:
        """An agent that never answers keeps no step from being taken."""
        world = make_world()
        world.agents.hangs = True
        running = asyncio.create_task(world.balancer.run())
        async with asyncio.timeout(30):
            while world.balancer.metrics._steps.total() < 3:  # noqa: ASYNC110 - another task changes it
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


class TestMetrics:
    """Labels are bounded, and every replica has a reason."""

    async def test_they_say_why(self) -> None:
        world = make_world()
        await world.balancer.step()
        text = world.balancer.metrics.render().decode()
        for line in (
            's3ml_balancer_decisions_total{reason="fell-back",replica="a",service="t"} 1.0',
            's3ml_balancer_replica_share{node="n1",replica="a",service="t"} 0.9',
            's3ml_balancer_replica_weight{node="n2",replica="b",service="t"} 20.0',
            's3ml_balancer_policy{policy="first"} 1.0',
            's3ml_balancer_policy{policy="last"} 0.0',
            's3ml_balancer_steps_total{outcome="written"} 1.0',
            's3ml_balancer_fallback{service="t"} 1.0',
            "s3ml_balancer_gateway_up 1.0",
            "s3ml_balancer_step_seconds_count 1.0",
        ):
            assert line in text

    async def test_a_picker_counts_picks_instead_of_steps(self) -> None:
        world = make_world(steering=Steering.PICKER)
        await world.balancer.step()
        assert "reason=" not in world.balancer.metrics.render().decode()

    def test_reasons_are_an_enumeration(self) -> None:
        assert len(Reason) < 16


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"interval_s": 0.05},
            {"interval_s": 0.3},
            {"readings_interval_s": 0.0},
            {"interval_s": float("nan")},
        ],
    )
    def test_what_is_out_of_bounds_is_refused(self, settings: dict[str, float]) -> None:
        with pytest.raises(ConfigurationError, match=r"expected 0\.1 to"):
            BalancerSettings(**settings)  # type: ignore[arg-type]


class TestEvents:
    def test_fields_are_on_a_list(self) -> None:
        lines: list[str] = []
        log = EventLog(lines.append, FakeClock())
        log.emit(Event.AGENT_LOST, node="n1", detail="x" * 1000)
        with pytest.raises(ValueError, match="fields not on the list: body"):
            log.emit(Event.AGENT_LOST, body="x")
        assert len(json.loads(lines[0])["detail"]) == 500
