"""What a balancer takes from a model's profile: its costs, and honest defaults for what it does not tell."""

from s3ml.bundle.paging import Paging
from s3ml.bundle.profile import Point, Profile
from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.model import PAGE_COST_S, Model
from s3ml.scheduling.paging import Curve, Sample, assumed_curve, fit_curve, learn_limit

_LEAST_S = 1e-6


def model_of(profile: Profile, *, threads: int, batch: int = 1) -> Model:
    """Return the costs of a model by its profile; pure.

    | what | measured with `s3ml profile --paging` | without |
    |---|---|---|
    | compute time | at the largest headroom, if it has these threads and batch 1 | median of a run |
    | curve | fitted to its points | nothing down to headroom 0.9, then linear up to the working set |
    | hot set | of one copy | the working set; nothing where the kernel could not tell |
    | cost of a page | as measured | 22 µs |
    | paging limit | by the profile's objective, if it has one and points miss it | not learned |

    Args:
        profile: Whose model is served.
        threads: Of the replicas.
        batch: Rows of one request, or of one run where requests are joined.

    Raises:
        ConfigurationError: this batch on these threads was not measured.
    """
    point = _point_of(profile, threads, batch)
    paging = profile.paging
    if paging is None:
        hot_set_bytes = point.working_set_bytes
        return Model(
            compute_s=max(point.p50_s, _LEAST_S),
            curve=None if hot_set_bytes is None else assumed_curve(hot_set_bytes),
            hot_set_bytes=hot_set_bytes,
        )
    is_same = (paging.threads, 1) == (threads, batch)
    return Model(
        compute_s=max(paging.compute_s if is_same else point.p50_s, _LEAST_S),
        curve=_curve_of(paging),
        hot_set_bytes=paging.hot_set_bytes // paging.copies,
        page_cost_s=max(paging.page_cost_s or PAGE_COST_S, _LEAST_S),
        paging_limit_per_s=_limit_of(paging, profile.settings.p99_objective_s),
    )


def _point_of(profile: Profile, threads: int, batch: int) -> Point:
    for point in profile.points:
        if (point.threads, point.batch) == (threads, batch):
            return point
    measured = ", ".join(f"batch {point.batch} on {point.threads}" for point in profile.points)
    raise ConfigurationError(
        f"profile of {profile.model.name}: expected one of {measured} threads, got batch {batch} on {threads}"
    )


def _curve_of(paging: Paging) -> Curve:
    return fit_curve(
        Sample(headroom=point.headroom, pages=point.pages_per_request) for point in paging.points
    )


def _limit_of(paging: Paging, objective_s: float | None) -> float | None:
    if objective_s is None:
        return None
    # Copies serve one request after the other, so each answers once in a mean latency.
    rates = [
        (paging.copies * point.pages_per_request / max(point.mean_s, _LEAST_S), point.p99_s)
        for point in paging.points
    ]
    return learn_limit(rates, objective_s=objective_s)
