"""What a balancer knows of a model: by its profile, as JSON, corrected."""

import msgspec
import pytest

from s3ml.bundle.paging import Paging, PagingPoint
from s3ml.bundle.profile import Settings
from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.learning import corrected, learned, observed
from s3ml.scheduling.balancer.policies import policy_named
from s3ml.scheduling.balancer.view import Replica
from s3ml.scheduling.model import PAGE_COST_S, Model, encode_model, parse_model
from s3ml.scheduling.paging import Sample, assumed_curve
from s3ml.scheduling.profiled import model_of
from tests.bundle.profiles import MB, point, profile
from tests.scheduling.sights import HOT_BYTES, NOW_S, crowded, reading, replica, view


def paged(headroom: float, pages: float, p99_s: float) -> PagingPoint:
    return PagingPoint(
        headroom=headroom,
        limit_bytes=round(headroom * 60 * MB),
        requests=100,
        pages_per_request=pages,
        mean_s=0.02,
        p50_s=0.01,
        p99_s=p99_s,
    )


PAGING = Paging(
    is_emulated=True,
    copies=2,
    threads=1,
    hot_set_bytes=60 * MB,
    compute_s=0.012,
    page_cost_s=15e-6,
    points=(paged(1.1, 0, 0.02), paged(0.8, 400, 0.05), paged(0.5, 2000, 0.4)),
)


class TestAProfile:
    """A profile tells what it measured; the rest has honest defaults."""

    def test_measured_paging_is_taken(self) -> None:
        model = model_of(profile(paging=PAGING), threads=1)
        assert model.curve is not None
        assert (model.compute_s, model.page_cost_s, model.hot_set_bytes) == (0.012, 15e-6, 30 * MB)
        assert [model.curve.pages(place) for place in (1.1, 0.8, 0.5)] == [0, 400, 2000]

    def test_other_threads_take_their_own_compute_time(self) -> None:
        assert model_of(profile(paging=PAGING), threads=2, batch=2).compute_s == 0.008

    def test_without_paging_the_working_set_is_what_can_page(self) -> None:
        model = model_of(profile(), threads=1)
        assert model.curve == assumed_curve(16 * MB)
        assert (model.compute_s, model.page_cost_s) == (0.01, PAGE_COST_S)

    def test_without_a_working_set_nothing_is_assumed(self) -> None:
        bare = profile(points=(point(working_set_bytes=None), point(batch=2)))
        model = model_of(bare, threads=1)
        assert (model.curve, model.hot_set_bytes) == (None, None)

    def test_a_cost_that_was_not_measured_is_the_default(self) -> None:
        unmeasured = msgspec.structs.replace(PAGING, page_cost_s=None)
        assert model_of(profile(paging=unmeasured), threads=1).page_cost_s == PAGE_COST_S

    def test_the_papers_limit_needs_an_objective(self) -> None:
        aimed = Settings(duration_s=2.0, inputs="random", p99_objective_s=0.1)
        assert model_of(profile(paging=PAGING), threads=1).paging_limit_per_s is None
        # 2 copies, 400 pages in each 20 ms.
        limit = model_of(profile(paging=PAGING, settings=aimed), threads=1).paging_limit_per_s
        assert limit == pytest.approx(40_000)

    def test_what_was_not_measured_is_said(self) -> None:
        with pytest.raises(ConfigurationError, match=r"batch 4 on 2 threads, got batch 8 on 1"):
            model_of(profile(), threads=1, batch=8)


class TestJSON:
    """Costs go through JSON unchanged, and nothing else comes out of it."""

    def test_a_model_comes_back(self) -> None:
        model = model_of(profile(paging=PAGING), threads=1)
        assert parse_model(encode_model(model)) == model

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"{", "truncated"),
            (b'{"compute": 1}', "unknown field `compute`"),
            (b'{"compute_s": -1}', "> 0"),
            (b'{"page_cost_s": 1e99}', "<= 86400"),
            (b'{"curve": {"points": [], "most_pages": 0}}', "1 to 256 points"),
            (b" " * 1_048_577, "at most 1048576 bytes"),
        ],
    )
    def test_what_is_wrong_is_refused(self, data: bytes, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            parse_model(data)


class TestLearning:
    """The curve follows what servers page for each of their answers."""

    def test_servers_paging_over_their_answers_is_observed(self) -> None:
        own = crowded(page_ins_per_s=1000.0)
        seen = view(replica("a", "n", own=own), replica("b", "n", own=own), nodes={"n": crowded()})
        assert list(observed(seen, since_s=0)) == [Sample(headroom=0.5, pages=50)]

    def test_a_reading_counts_once(self) -> None:
        seen = view(replica("a", "n", own=crowded()), nodes={"n": crowded()})
        assert list(observed(seen, since_s=NOW_S)) == []

    @pytest.mark.parametrize(
        "quiet",
        [
            replica("a", "n", own=crowded(), rate_rps=0.0),
            replica("a", "n"),
            replica("a", "m", own=crowded()),
            replica("a", "n", own=crowded(page_ins_per_s=float("inf"))),
        ],
        ids=["does not answer", "not attributed", "on another node", "absurd"],
    )
    def test_nothing_else_is_its_paging(self, quiet: Replica) -> None:
        assert list(observed(view(quiet, nodes={"n": crowded()}), since_s=0)) == []

    def test_a_node_that_is_not_read_tells_nothing(self) -> None:
        old = crowded(taken_at_s=NOW_S - 60)
        assert list(observed(view(replica("a", "n", own=crowded()), nodes={"n": old}), since_s=0)) == []

    def test_the_curve_moves_towards_it(self) -> None:
        model = Model(curve=assumed_curve(HOT_BYTES))
        seen = view(replica("a", "n", own=crowded(page_ins_per_s=0.0)), nodes={"n": crowded()})
        moved = corrected(model, seen, since_s=0)
        assert model.curve is not None
        assert moved.curve is not None
        assert 0 < moved.curve.pages(0.5) < model.curve.pages(0.5)

    def test_the_policy_that_predicts_goes_by_it(self) -> None:
        seen = view(replica("a", "n", own=crowded(page_ins_per_s=0.0)), nodes={"n": crowded()})
        model = Model(curve=assumed_curve(HOT_BYTES))
        policy = learned(policy_named("s3ml", model), seen, since_s=0)
        assert policy == policy_named("s3ml", corrected(model, seen, since_s=0))

    @pytest.mark.parametrize("name", ["prequal", "s3ml"])
    def test_one_that_has_no_curve_stays(self, name: str) -> None:
        seen = view(replica("a", "n", own=crowded()), nodes={"n": crowded()})
        policy = policy_named(name)
        assert learned(policy, seen, since_s=0) is policy

    def test_a_model_without_a_curve_learns_none(self) -> None:
        seen = view(replica("a", "n", own=crowded()), nodes={"n": reading()})
        assert corrected(Model(), seen, since_s=0) == Model()
        assert Model().corrected(Sample(headroom=1, pages=1)) == Model()
