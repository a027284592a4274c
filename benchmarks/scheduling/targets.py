"""The targets of E2 and E3, held against runs of either kind; pure."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.scheduling.results import Verdict
from benchmarks.scheduling.summaries import by_policy, ratios
from benchmarks.summaries import percentile

BOUNDS = (("s3ml-paper", 0.5), ("prequal", 1.0))
"""E2: beside whom, and how many times their p99 that of s3ml may be."""
CALM_BOUND = 0.02
"""E3: how much more than the best policy's p99 that of s3ml may be."""

Rows = Sequence[dict[str, Any]]


def disturbed(group: Rows, where: str, why: Callable[[Rows, str, float], str]) -> list[Verdict]:
    """Hold runs of one kind against E2's targets.

    Args:
        group: The runs, of all policies.
        where: Which runs they are, for people.
        why: Says what goes along with a miss, from the runs, the other policy and the ratio over its bound.
    """
    found = []
    for beside, bound in BOUNDS:
        paired = ratios(group, "s3ml", beside, "p99_ms")
        ratio = percentile(paired, 0.5)
        found.append(
            Verdict(
                target=f"s3ml's p99 beside {beside}'s ({where})",
                aim=f"at most {bound:g} times",
                got=f"{ratio:.2f} times ({min(paired):.2f} to {max(paired):.2f})",
                is_met=ratio <= bound,
                why="" if ratio <= bound else why(group, beside, ratio / bound),
            )
        )
    return found


def undisturbed(group: Rows, where: str) -> Verdict:
    """Hold runs of one kind against E3's target."""
    seeds = by_policy(group, "p99_ms")
    p99 = {name: percentile(values, 0.5) for name, values in seeds.items()}
    best = min(p99, key=lambda name: p99[name])
    over = p99["s3ml"] / p99[best] - 1
    missed = (
        f"{100 * (over - CALM_BOUND):.1f} points over; by seed {best} itself has "
        f"{min(seeds[best]):.1f} to {max(seeds[best]):.1f} ms"
    )
    return Verdict(
        target=f"s3ml's p99 beside the best policy's, undisturbed ({where})",
        aim=f"at most {100 * CALM_BOUND:g} % more",
        got=f"{100 * over:.1f} % more than {best} ({p99['s3ml']:.1f} and {p99[best]:.1f} ms)",
        is_met=over <= CALM_BOUND,
        why="" if over <= CALM_BOUND else missed,
    )
