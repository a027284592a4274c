"""E2 and E3 on emulated nodes: an antagonist on one of three nodes, and none; seven policies in turns."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.scheduling.emulated import Bench, division, row_of
from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.steered import Steered
from benchmarks.scheduling.summaries import by_policy
from benchmarks.scheduling.targets import Rows, disturbed, undisturbed
from benchmarks.summaries import percentile
from s3ml.scheduling.balancer.policies import POLICIES

CVS = (1.0, 3.0)
CALM_CVS = CVS[:1]
# Fewer than these are not seen in a 99th percentile.
_LEFT_ALONE = 0.005


def turns(names: Sequence[str], block: int) -> list[str]:
    """Return the order of policies in a block of runs: another first each time, every other one backward."""
    start = block % len(names)
    turned = [*names[start:], *names[:start]]
    return turned[::-1] if block % 2 else turned


def interference(bench: Bench, steered: Steered) -> dict[str, Any]:
    """Run E2: in each block one seed, one kind of arrivals, one disturbed node, and all policies."""
    sweeps_per_s = bench.settings.sweeps_per_s
    return conclude(bench, _blocks("E2", bench, steered, cvs=CVS, sweeps_per_s=sweeps_per_s))


def calm(bench: Bench, steered: Steered) -> dict[str, Any]:
    """Run E3: the blocks of steady arrivals with nobody disturbed."""
    return conclude_calm(bench, _blocks("E3", bench, steered, cvs=CALM_CVS, sweeps_per_s=0.0))


def _blocks(
    name: str, bench: Bench, steered: Steered, *, cvs: Sequence[float], sweeps_per_s: float
) -> list[dict[str, Any]]:
    settings, rows = bench.settings, []
    policies = tuple(POLICIES)
    blocks = [(seed, cv) for seed in settings.seeds for cv in cvs]
    for block, (seed, cv) in enumerate(blocks):
        node = bench.site.nodes[block // len(cvs) % len(bench.site.nodes)]
        node.disturb(sweeps_per_s)
        for turn, policy in enumerate(turns(policies, block)):
            steered.choose(policy)
            before = steered.picked()
            run, machine = bench.run(cv=cv, seed=seed)
            shares = division(run)
            labels = {
                "rate_per_s": settings.rate_per_s,
                "block": block,
                "turn": turn,
                "disturbed": node.name if sweeps_per_s else None,
                "disturbed_share": shares.get(node.name, 0.0),
                "picked_share": round((steered.picked() - before) / run.sent, 4),
                "failures": run.failures,
                **machine,
            }
            rows.append(row_of(run, policy=policy, seed=seed, cv=cv, labels=labels))
            _tell(f"{name} block {block + 1} of {len(blocks)}", rows[-1])
        node.disturb(0)
    return rows


def conclude(bench: Bench, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the document of E2's rows."""
    title = "an antagonist on one of three emulated nodes: seven policies, steady and bursty arrivals"
    return _document("E2", title, bench, rows, judge=verdicts, cvs=CVS)


def conclude_calm(bench: Bench, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the document of E3's rows."""
    title = "nobody disturbed on three emulated nodes: seven policies, steady arrivals"
    return _document("E3", title, bench, rows, judge=verdicts_calm, cvs=CALM_CVS)


def _document(
    name: str,
    title: str,
    bench: Bench,
    rows: Sequence[dict[str, Any]],
    *,
    judge: Callable[[Sequence[dict[str, Any]]], list[Verdict]],
    cvs: Sequence[float],
) -> dict[str, Any]:
    is_quick, policies = bench.settings.is_quick, list(POLICIES)
    return document(
        name,
        Kind.EMULATION,
        title=title,
        settings={**bench.settings.described, "cvs": list(cvs)},
        seeds=bench.settings.seeds,
        runs=sorted(rows, key=lambda row: (row["arrivals"], policies.index(row["policy"]), row["seed"])),
        verdicts=[] if is_quick else judge(rows),
        is_quick=is_quick,
    )


def verdicts(rows: Rows) -> list[Verdict]:
    """Hold the rows of E2 against its targets; pure."""
    return [one for cv in CVS for one in disturbed(_of(rows, cv), f"emulated, picks, CV {cv:g}", _why)]


def verdicts_calm(rows: Rows) -> list[Verdict]:
    """Hold the rows of E3 against its target; pure."""
    return [undisturbed(_of(rows, cv), f"emulated, picks, CV {cv:g}") for cv in CALM_CVS]


def _of(rows: Rows, cv: float) -> Rows:
    return [row for row in rows if row["arrivals"] == f"CV {cv:g}"]


def _why(group: Sequence[dict[str, Any]], beside: str, over: float) -> str:
    """Say what of the figures goes along with a miss."""
    p99, shares, pages = (
        {name: percentile(values, 0.5) for name, values in by_policy(group, figure).items()}
        for figure in ("p99_ms", "disturbed_share", "pages_per_request")
    )
    if max(shares["s3ml"], shares[beside]) < _LEFT_ALONE:
        also = "; both leave that node alone, and what remains is queueing on the others"
    elif shares["s3ml"] > shares[beside]:
        also = "; what it sends there while the others queue is slower than their queues"
    else:
        also = ""
    return (
        f"{over:.2f} times the bound: p99 {p99['s3ml']:.0f} ms beside {p99[beside]:.0f} ms; of all requests "
        f"{shares['s3ml']:.1%} beside {shares[beside]:.1%} went to the disturbed node, and a request brought "
        f"{pages['s3ml']:.0f} beside {pages[beside]:.0f} pages back{also}"
    )


def _tell(where: str, row: dict[str, Any]) -> None:
    print(
        f"  {where}, {row['arrivals']}, {row['policy']}: p50 {row['p50_ms']:.1f} "
        f"p99 {row['p99_ms']:.0f} ms, {row['pages_per_request']} pages, {row['disturbed_share']:.0%} to the "
        f"disturbed node, {row['unanswered']} unanswered, {row['busy_cores']} cores busy",
        flush=True,
    )
