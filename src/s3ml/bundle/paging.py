"""What a model pages when its node's EPC is short: measured on an EMULATED one, as a section of its profile.

Headroom is the size of the EPC over the hot set of everything that shares it; the hot set is what the servers
keep in memory while they compute and nothing is short. The cost of a page is the latency that it added. None
of it is a figure of SGX hardware. Scheduling fits its curve to these points, and corrects it while serving.

Specified in ``docs/spec/profile.md``.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import DAY_S

PAGING_POINTS_LIMIT = 64
COPIES_LIMIT = 64

Size = Annotated[int, msgspec.Meta(ge=1, le=2**50)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=DAY_S)]
Pages = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Headroom = Annotated[float, msgspec.Meta(gt=0, le=100)]


class PagingPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What requests cost at one size of the EPC, all copies serving one after the other request at once.

    Attributes:
        headroom: `limit_bytes` over the hot set.
        limit_bytes: The size of the EPC.
        requests: How many were timed, over all copies.
        pages_per_request: Pages brought back in a request, in the mean.
        mean_s: Latency of a request in the mean.
        p50_s: Its median.
        p99_s: Its latency at p99; the slowest where there were less than a hundred.
    """

    headroom: Headroom
    limit_bytes: Size
    requests: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    pages_per_request: Pages
    mean_s: Seconds
    p50_s: Seconds
    p99_s: Seconds


class Paging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model pages, on an emulated EPC.

    Attributes:
        is_emulated: Always: what was measured is a memory cgroup, and no enclave.
        copies: Servers of the model that shared the EPC.
        threads: Of each.
        hot_set_bytes: Of all copies together.
        compute_s: Latency of a request in the mean at the largest headroom, where next to nothing pages.
        page_cost_s: Latency that a page adds; None where no point paged enough to tell.
        points: By headroom, the largest first.
    """

    is_emulated: Literal[True]
    copies: Annotated[int, msgspec.Meta(ge=1, le=COPIES_LIMIT)]
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)]
    hot_set_bytes: Size
    compute_s: Seconds
    page_cost_s: Seconds | None
    points: Annotated[tuple[PagingPoint, ...], msgspec.Meta(min_length=1, max_length=PAGING_POINTS_LIMIT)]


def check_paging(paging: Paging) -> None:
    """Check that a section does not contradict itself.

    Raises:
        ConfigurationError: its points are out of order, or one has its p50 above its p99.
    """
    limits = [point.limit_bytes for point in paging.points]
    if limits != sorted(set(limits), reverse=True):
        raise ConfigurationError("profile: paging: expected points by size, the largest first, each once")
    for point in paging.points:
        if point.p50_s > point.p99_s:
            raise ConfigurationError(
                f"profile: paging: headroom {point.headroom:g}: expected p50 below p99, "
                f"got {point.p50_s:g} s and {point.p99_s:g} s"
            )
