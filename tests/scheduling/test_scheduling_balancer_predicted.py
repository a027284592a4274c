"""The policy s3ml: where the answer is predicted to come first, and what no reading can make it do."""

import math
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3ml.scheduling.balancer.policies import policy_named
from s3ml.scheduling.balancer.policies.claiming import STALE_S, usable
from s3ml.scheduling.balancer.policies.dividing import FALL
from s3ml.scheduling.balancer.policies.estimating import FACTOR_LIMIT, estimate, known_of
from s3ml.scheduling.balancer.policies.predicted import EXPLORED, NOISE, UNHEARD_S, Predicted
from s3ml.scheduling.balancer.view import Choice, Reason, Replica, View
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import assumed_curve
from s3ml.tee_memory.reading import Confidence, Kind, Reading
from tests.scheduling.sights import HOT_BYTES, NOW_S, crowded, reading, replica, unmeasured, view

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MODEL = Model(compute_s=0.01, curve=assumed_curve(HOT_BYTES), hot_set_bytes=HOT_BYTES, page_cost_s=20e-6)
STEADY = Predicted(model=MODEL, explored=0.0)


def seeded(seed: int = 1) -> Random:
    return Random(seed)  # noqa: S311 - draws that can be had again


def pick(*replicas: Replica, policy: Predicted = STEADY, **changes: Any) -> Choice:
    return policy.pick(view(*replicas, **changes), seeded())


def service_s(one: Replica, model: Model = MODEL, **nodes: Reading) -> float:
    seen = view(one, nodes=nodes)
    found = estimate(one, known_of(seen, seen.replicas, model))
    assert found is not None
    return found.service_s


class TestPredicting:
    """Requests in flight and one more, times the work of each."""

    def test_the_first_to_answer_is_chosen(self) -> None:
        fleet = [
            replica("a", in_flight=3),
            replica("b", service_s=0.02, in_flight=1),
            replica("c", service_s=0.1),
        ]
        choice = pick(*fleet, replica("d", in_flight=9))
        assert choice.replica == "b"

    def test_it_says_why_not(self) -> None:
        nodes = {"p": crowded(taken_at_s=NOW_S - 0.1)}
        fleet = [
            replica("a", "n"),
            replica("b", "m", in_flight=1),
            replica("c", "l", service_s=0.05),
            unmeasured("d", "p"),
            replica("e", is_ready=False),
            replica("f", "k", in_flight=7),
        ]
        assert pick(*fleet, nodes=nodes).reasons == {
            "a": Reason.CHOSEN,
            "b": Reason.BUSIER,
            "c": Reason.SLOWER,
            "d": Reason.PAGING,
            "e": Reason.NOT_READY,
            "f": Reason.BUSIER,
        }

    def test_paging_is_per_request_not_per_second(self) -> None:
        """Half the answers at half the paging are the same work: sending less makes no node look better."""
        busy = service_s(replica("a", "n", own=crowded(), rate_rps=20.0), n=crowded())
        idler = service_s(replica("a", "n", own=crowded(page_ins_per_s=10_000.0), rate_rps=10.0), n=crowded())
        assert idler == pytest.approx(busy, rel=0.02)
        assert busy > 0.01

    def test_a_replica_of_a_calmer_node_is_chosen_among_like_ones(self) -> None:
        fleet = [replica("a", "n"), replica("b", "n", in_flight=1), replica("c", "m")]
        assert pick(*fleet).replica == "c"

    def test_a_difference_within_noise_decides_nothing(self) -> None:
        draw = seeded()
        fleet = view(replica("a", service_s=0.01), replica("b", service_s=0.011))
        assert {STEADY.pick(fleet, draw).replica for _ in range(50)} == {"a", "b"}

    def test_several_at_once_wait_for_nobody(self) -> None:
        wide = Predicted(model=Model(parallel=4), explored=0.0)
        fleet = [
            replica("a", in_flight=3),
            replica("b", service_s=0.02),
            replica("c", in_flight=3, service_s=0.1),
        ]
        assert pick(*fleet, policy=wide).replica == "a"

    def test_errors_attract_nothing(self) -> None:
        assert pick(replica("a", service_s=0.004, error_share=0.8), replica("b")).replica == "b"

    def test_work_that_goes_on_refutes_what_was_measured(self) -> None:
        stuck = replica("a", in_flight=1, oldest_s=0.5, answered_at_s=NOW_S - 0.4)
        assert service_s(stuck) == pytest.approx(0.4)

    def test_the_wait_behind_others_does_not(self) -> None:
        busy = replica("a", in_flight=9, oldest_s=0.5, answered_at_s=NOW_S - 0.001)
        assert service_s(busy) == pytest.approx(0.01)


class TestReadings:
    """A reading decides where nothing newer was measured, leads otherwise, and never rules."""

    def test_it_decides_before_the_first_answer(self) -> None:
        fleet = [unmeasured("a", "n"), unmeasured("b", "m")]
        assert pick(*fleet, nodes={"n": crowded(), "m": reading()}).replica == "b"

    def test_an_old_measurement_gives_way(self) -> None:
        """A node that paged a while ago and now has room is taken for faster than its last answers."""
        old = replica("a", "n", service_s=0.1, rate_rps=0.0, answered_at_s=NOW_S - 20)
        assert service_s(old, n=reading()) == pytest.approx(0.1 / FACTOR_LIMIT)

    def test_a_new_one_holds(self) -> None:
        assert service_s(replica("a", "n", service_s=0.1), n=reading()) > 0.07

    def test_a_server_that_rests_lacks_what_was_pushed_out(self) -> None:
        resting = {"rate_rps": 0.0, "answered_at_s": NOW_S - 5}
        out = replica("a", "n", own=reading(resident_bytes=0, evicted_bytes=HOT_BYTES), **resting)
        kept = replica("a", "n", own=reading(resident_bytes=HOT_BYTES), **resting)
        assert service_s(out, n=crowded()) > 1.5 * service_s(kept, n=crowded())

    def test_where_there_is_room_it_is_not_held_against_it(self) -> None:
        out = replica("a", "n", own=reading(resident_bytes=0, evicted_bytes=HOT_BYTES), rate_rps=0.0)
        assert service_s(out, n=reading()) == pytest.approx(0.01)

    def test_of_two_bounds_the_lesser_is_taken(self) -> None:
        """Much paging on a node whose curve says little is somebody else's, and the other way round."""
        others = crowded(capacity_bytes=4 * HOT_BYTES, page_ins_per_s=1e6)
        assert service_s(replica("a", "n"), n=others) == pytest.approx(0.01)
        idle = crowded(page_ins_per_s=0.0)
        assert service_s(replica("a", "n"), n=idle) == pytest.approx(0.01)

    def test_pages_cost_more_where_others_wait(self) -> None:
        assert service_s(unmeasured("a", "n"), n=crowded(pressure=0.8)) > service_s(
            unmeasured("a", "n"), n=crowded()
        )

    def test_where_nobody_counts_pages_pressure_tells(self) -> None:
        guest: dict[str, Any] = {"kind": Kind.CVM, "page_ins_per_s": None, "resident_bytes": None}
        pressed = reading(pressure=0.5, **guest)
        bare = Model(compute_s=0.01)
        assert service_s(unmeasured("a", "n"), bare, n=pressed) == pytest.approx(0.02, rel=0.15)

    def test_another_on_the_node_stands_in_before_the_first_answer(self) -> None:
        fleet = [
            unmeasured("a", "n"),
            replica("b", "n", service_s=0.2, in_flight=5),
            replica("c", "m", in_flight=2),
        ]
        assert pick(*fleet).replica == "c"


class TestFallingBack:
    """What cannot be relied on is no reading."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"taken_at_s": NOW_S - STALE_S - 1},
            {"confidence": Confidence.BLIND},
            {"page_ins_per_s": math.inf},
            {"page_ins_per_s": math.nan},
            {"page_ins_per_s": -1.0},
            {"page_ins_per_s": 1e8},
            {"pressure": 1.1},
            {"capacity_bytes": -1},
        ],
        ids=str,
    )
    def test_stale_blind_and_absurd_ones_are_not_used(self, changes: dict[str, Any]) -> None:
        assert usable(crowded(**changes), NOW_S) is None
        fleet = [replica("a", "n"), replica("b", "n", service_s=0.05)]
        with_it = pick(*fleet, nodes={"n": crowded(**changes)})
        assert with_it == pick(*fleet)
        assert with_it.reasons["a"] is Reason.FELL_BACK

    def test_where_nothing_was_read_or_measured_it_is_power_of_two(self) -> None:
        bare, draw = Predicted(explored=0.0), seeded()
        fleet = view(unmeasured("a"), unmeasured("b", in_flight=1), unmeasured("c", in_flight=2))
        choices = [bare.pick(fleet, draw) for _ in range(300)]
        picked = Counter(choice.replica for choice in choices)
        assert picked["c"] == 0
        assert picked["a"] > picked["b"] > 0
        assert all(choice.reasons[choice.replica or ""] is Reason.FELL_BACK for choice in choices)


lies = st.builds(
    Reading,
    kind=st.just(Kind.SIMULATED),
    source=st.just("a liar"),
    taken_at_s=st.floats(NOW_S - 12, NOW_S),
    span_s=st.floats(0, 5),
    capacity_bytes=st.one_of(st.none(), st.integers(0, 2**50)),
    resident_bytes=st.one_of(st.none(), st.integers(0, 2**50)),
    evicted_bytes=st.one_of(st.none(), st.integers(0, 2**50)),
    page_ins_per_s=st.one_of(st.none(), st.floats(0, 1e9)),
    page_outs_per_s=st.none(),
    pressure=st.one_of(st.none(), st.floats(0, 1)),
    confidence=st.just(Confidence.COUNTED),
)


@st.composite
def lied_to(draw: st.DrawFn) -> View:
    """A fleet that was measured, and whose hosts say whatever they like."""
    fleet = [
        replica(
            f"replica-{number}",
            f"node-{number // 2}",
            service_s=draw(st.floats(1e-4, 10)),
            in_flight=draw(st.integers(0, 8)),
            rate_rps=draw(st.floats(0, 100)),
            answered_at_s=NOW_S - draw(st.floats(0, 60)),
            own=draw(st.one_of(st.none(), lies)),
        )
        for number in range(draw(st.integers(1, 8)))
    ]
    return view(*fleet, nodes=draw(st.dictionaries(st.sampled_from([f"node-{n}" for n in range(4)]), lies)))


class TestForgery:
    """A forged reading costs a bounded factor of what was measured, and nothing in between answers."""

    @unhurried
    @given(lied_to())
    def test_no_lie_moves_an_estimate_beyond_the_factor(self, seen: View) -> None:
        known = known_of(seen, seen.replicas, MODEL)
        for one in seen.replicas:
            found = estimate(one, known)
            assert found is not None
            assert (
                found.measured_s / FACTOR_LIMIT * 0.999
                <= found.service_s
                <= found.measured_s * FACTOR_LIMIT * 1.001
            )

    @unhurried
    @given(lied_to(), st.integers(0, 100))
    def test_no_lie_chooses_much_worse_than_measured(self, seen: View, seed: int) -> None:
        """The choice is within 4 x 4 x 1.2 of the best, by what the balancer measured itself."""
        chosen = STEADY.pick(seen, seeded(seed)).replica
        busy = Counter({one.node: 0 for one in seen.replicas})
        for one in seen.replicas:
            busy[one.node] += one.in_flight
        known = known_of(view(*seen.replicas), seen.replicas, Model(compute_s=0.01))

        def score(one: Replica) -> float:
            found = estimate(one, known)
            assert found is not None
            return (one.in_flight + 1 + 0.25 * (busy[one.node] - one.in_flight)) * found.measured_s

        hot_above = sorted(one.in_flight for one in seen.replicas)[
            int(STEADY.hot_quantile * (len(seen.replicas) - 1))
        ]
        best = min(score(one) for one in seen.replicas if one.in_flight <= hot_above)
        mine = next(score(one) for one in seen.replicas if one.name == chosen)
        assert mine <= best * FACTOR_LIMIT**2 * NOISE * 1.001

    def test_a_fresh_measurement_bounds_a_lie_more_tightly(self) -> None:
        """Within half a second of an answer the factor is 1.8."""
        fresh = replica("a", "n", service_s=0.05, rate_rps=0.0, answered_at_s=NOW_S - 0.5)
        huge = crowded(capacity_bytes=1, resident_bytes=2**50)
        assert service_s(fresh, n=reading()) >= 0.05 / 1.8
        assert service_s(fresh, Model(compute_s=10.0, curve=MODEL.curve), n=huge) <= 0.05 * 1.8

    @pytest.mark.parametrize(
        "lie",
        [reading(), crowded(page_ins_per_s=9e6, pressure=1.0)],
        ids=["nothing pages", "everything pages"],
    )
    @pytest.mark.parametrize("liars", [("m",), ("n", "m", "l")], ids=str)
    def test_in_a_queue_it_is_about_as_good_as_without_readings(
        self, lie: Reading, liars: tuple[str, ...]
    ) -> None:
        """Three nodes of which one is ten times slower; half of what they bear comes."""
        honest = mean_in_queue(None, ())
        assert mean_in_queue(lie, liars) <= 1.5 * honest


@cache
def mean_in_queue(lie: Reading | None, liars: tuple[str, ...]) -> float:
    """Return the mean time in six queues of one server each, with or without lies, in a time of its own."""
    draw, policy = seeded(7), Predicted(model=MODEL)
    works = {"n": 0.1, "m": 0.01, "l": 0.01}
    free = {f"{node}{number}": 0.0 for node in works for number in range(2)}
    waiting: dict[str, list[float]] = {name: [] for name in free}
    answered = dict.fromkeys(free, 0.0)
    now, total = 0.0, 0.0
    for turn in range(1000):
        now += draw.expovariate(200)
        fleet = []
        for name, ends in waiting.items():
            answered[name] = max([answered[name], *(end for end in ends if end <= now)])
            waiting[name] = [end for end in ends if end > now]
            fleet.append(
                replica(
                    name,
                    name[0],
                    service_s=works[name[0]],
                    in_flight=len(waiting[name]),
                    rate_rps=0.0,
                    answered_at_s=answered[name],
                )
            )
        nodes = {} if lie is None else {node: reading_at(lie, now) for node in liars}
        chosen = policy.pick(view(*fleet, nodes=nodes, now_s=now, turn=turn), draw).replica
        assert chosen is not None
        free[chosen] = max(free[chosen], now) + works[chosen[0]]
        waiting[chosen].append(free[chosen])
        total += free[chosen] - now
    return total / 1000


def reading_at(lie: Reading, at_s: float) -> Reading:
    return reading(
        taken_at_s=at_s,
        capacity_bytes=lie.capacity_bytes,
        resident_bytes=lie.resident_bytes,
        evicted_bytes=lie.evicted_bytes,
        page_ins_per_s=lie.page_ins_per_s,
        pressure=lie.pressure,
    )


class TestExploring:
    """About one request in a hundred goes where nothing was heard of lately."""

    def picked(self, *fleet: Replica, **changes: Any) -> Counter[Reason]:
        draw, policy = seeded(), Predicted(model=MODEL)
        seen = view(*fleet, **changes)
        choices = [policy.pick(seen, draw) for _ in range(2000)]
        return Counter(choice.reasons[choice.replica or ""] for choice in choices)

    def test_a_silent_node_is_tried(self) -> None:
        silent = replica("a", service_s=9.0, answered_at_s=NOW_S - UNHEARD_S - 1)
        found = self.picked(silent, replica("b"))
        assert 2000 * EXPLORED / 2 * 0.4 < found[Reason.EXPLORED] < 2000 * EXPLORED / 2 * 2

    @pytest.mark.parametrize(
        "other",
        [replica("c", "n"), replica("c", "n", answered_at_s=None, in_flight=1)],
        ids=["that answers", "with a request on its way"],
    )
    def test_a_node_that_is_heard_of_needs_none(self, other: Replica) -> None:
        silent = replica("a", "n", service_s=9.0, answered_at_s=NOW_S - 60)
        assert self.picked(silent, other, replica("b"))[Reason.EXPLORED] == 0

    def test_a_node_that_is_read_needs_it_later(self) -> None:
        silent = replica("a", "n", service_s=9.0, answered_at_s=NOW_S - UNHEARD_S - 1)
        assert self.picked(silent, replica("b"), nodes={"n": crowded()})[Reason.EXPLORED] == 0
        silent = replica("a", "n", service_s=9.0, answered_at_s=NOW_S - 30)
        assert self.picked(silent, replica("b"), nodes={"n": crowded()})[Reason.EXPLORED] > 0


class TestScale:
    """Of a large fleet some are compared."""

    def test_no_more_than_sixteen_are_compared(self) -> None:
        fleet = [
            replica(f"replica-{number}", f"node-{number // 4}", service_s=1 + number) for number in range(200)
        ]
        choice = pick(*fleet)
        drawn = [reason for reason in choice.reasons.values() if reason is not Reason.NOT_DRAWN]
        assert len(drawn) == 16


class TestSharesOfS3ML:
    """Shares go by speed, slowly."""

    def test_the_faster_one_gets_more_than_in_proportion(self) -> None:
        share = policy_named("s3ml", MODEL).shares(view(replica("a"), replica("b", service_s=0.03))).share
        assert share["a"] > 3 * share["b"] > 0

    def test_small_differences_are_left_to_the_gateway(self) -> None:
        """Where readings say that nothing pages: sampled timings differ that much by chance."""
        fleet, calm = (replica("a", "n"), replica("b", "m", service_s=0.02)), {"n": reading(), "m": reading()}
        policy = policy_named("s3ml", MODEL)
        assert policy.shares(view(*fleet, nodes=calm)).share == {"a": 0.5, "b": 0.5}
        assert policy.shares(view(*fleet)).share["a"] > 0.7

    def test_a_step_is_bounded(self) -> None:
        previous = {"a": 0.1, "b": 0.9}
        share = (
            policy_named("s3ml", MODEL)
            .shares(view(replica("a"), replica("b", service_s=5.0), previous=previous))
            .share
        )
        assert 0.1 < share["a"] <= 0.1 + FALL

    def test_it_settles(self) -> None:
        """The same view again and again brings the same shares, from whatever side."""
        policy, ends = policy_named("s3ml", MODEL), []
        for start in (0.01, 0.99):
            previous = {"a": start, "b": 1 - start}
            for _ in range(40):
                previous = dict(
                    policy.shares(view(replica("a"), replica("b", service_s=0.03), previous=previous)).share
                )
            ends.append(previous["a"])
        assert ends[0] == pytest.approx(ends[1])

    def test_it_says_what_pages(self) -> None:
        short = crowded(capacity_bytes=HOT_BYTES // 2, pressure=1.0)
        fleet = view(replica("a", "n"), unmeasured("b", "m"), nodes={"m": short})
        assert policy_named("s3ml", MODEL).shares(fleet).reasons == {"a": Reason.CHOSEN, "b": Reason.PAGING}

    def test_where_nothing_is_known_all_are_alike(self) -> None:
        shares = policy_named("s3ml").shares(view(unmeasured("a"), unmeasured("b")))
        assert shares.share == {"a": 0.5, "b": 0.5}
        assert set(shares.reasons.values()) == {Reason.FELL_BACK}
