"""The tables of the scheduling experiments, the same for simulation and emulation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.scheduling.results import NOTES, Kind, read
from benchmarks.scheduling.summaries import spread

EXPERIMENTS = ("E1", "E2", "E3", "E4", "E5", "E10", "E11")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _over_seeds(runs: Sequence[Mapping[str, Any]], figure: str, digits: int = 0) -> str:
    """Return the median over seeds with the least and the greatest; "unknown" where it was not measured."""
    values = [run[figure] for run in runs if run[figure] is not None]
    if not values:
        return "unknown"
    found = spread(values, digits=6)
    low, high = found["range"]
    return f"{found['median']:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _grouped(runs: Iterable[Mapping[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        found.setdefault(tuple(run.get(key, "") for key in keys), []).append(run)
    return found


def verdicts(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return every verdict, and below them why targets were missed."""
    rows, reasons = [], []
    for document in documents:
        for verdict in document["verdicts"]:
            word = "met" if verdict["is_met"] else "**missed**"
            rows.append([document["experiment"], verdict["target"], verdict["aim"], verdict["got"], word])
            if verdict["why"]:
                reasons.append(f"* {document['experiment']}, {verdict['target']}: {verdict['why']}.")
    table = _table(["", "target", "aim", "got", ""], rows)
    return "\n".join([table, "", "Missed, by how much and why:", "", *reasons]) if reasons else table


def policies(document: Mapping[str, Any]) -> str:
    """Return the figures of each policy (E2, E3)."""
    rows = []
    grouped = _grouped(document["runs"], "size", "arrivals", "steering", "policy")
    for (size, arrivals, steering, policy), runs in grouped.items():
        rows.append(
            [
                ", ".join(part for part in (size, arrivals, steering, policy) if part),
                _over_seeds(runs, "p50_ms"),
                _over_seeds(runs, "p99_ms"),
                _over_seeds(runs, "p999_ms"),
                f"{100 * spread([run['over_objective'] for run in runs], digits=6)['median']:.2f} %",
                _over_seeds(runs, "pages_per_request"),
            ]
        )
    figures = ["p50 ms", "p99 ms", "p99.9 ms", "over objective", "pages per request"]
    return _table(["fleet, arrivals, steered by, policy", *figures], rows)


def signals(document: Mapping[str, Any]) -> str:
    """Return what each signal explains (E1)."""
    rows = [
        [
            f"{load} load, {name}",
            f"{said['r_squared']:.2f}",
            f"{said['r_squared_log']:.2f}",
            f"{said['lead_s']['median']:g} ({' to '.join(f'{one:g}' for one in said['lead_s']['range'])})",
        ]
        for load, together in document["together"].items()
        for name, said in together.items()
    ]
    return _table(["signal", "R² with p99", "R² with its logarithm", "comes first by, s"], rows)


def moving(document: Mapping[str, Any]) -> str:
    """Return recovery, p99 and swing by policy and by how readings come (E4)."""
    keys = ("steering", "policy", "condition")
    recoveries = {tuple(one[key] for key in keys): one["recovery_s"] for one in document["recoveries"]}
    rows = []
    for names, runs in _grouped(document["runs"], *keys).items():
        recovery_s = recoveries[names]
        rows.append(
            [
                ", ".join(names),
                "never" if recovery_s is None else f"{recovery_s:g}",
                _over_seeds(runs, "p99_ms"),
                _over_seeds(runs, "swing", 3),
                _over_seeds(runs, "pages_per_request"),
            ]
        )
    head = ["steered by, policy, readings", "recovery, s", "p99 ms", "swing", "pages per request"]
    return _table(head, rows)


def capacity(document: Mapping[str, Any]) -> str:
    """Return the highest rates (E5)."""
    grouped = _grouped(document["runs"], "policy")
    ways = list(dict.fromkeys(run["steering"] for run in document["runs"]))
    rows = []
    for (policy,), runs in grouped.items():
        rates = {run["steering"]: run["highest_per_s"] for run in runs}
        rows.append([policy, *(f"{rates[way]:.0f}" if way in rates else "" for way in ways)])
    return _table(["requests/s with p99 under the objective", *ways], rows)


def ablation(document: Mapping[str, Any]) -> str:
    """Return p99 of each variant (E10)."""
    conditions = list(dict.fromkeys(run["condition"] for run in document["runs"]))
    rows = []
    for (steering, policy), runs in _grouped(document["runs"], "steering", "policy").items():
        by_condition = _grouped(runs, "condition")
        rows.append(
            [f"{steering}, {policy}", *(_over_seeds(by_condition[one,], "p99_ms") for one in conditions)]
        )
    return _table(["p99 ms", *conditions], rows)


def cost(document: Mapping[str, Any]) -> str:
    """Return what decisions cost (E11)."""
    counts = sorted({run["replicas"] for run in document["runs"]})
    rows = []
    for (what, policy), runs in _grouped(document["runs"], "what", "policy").items():
        by_count = {run["replicas"]: run for run in runs}
        cells = [f"{by_count[count]['median_us']:.0f} / {by_count[count]['p99_us']:.0f}" for count in counts]
        rows.append([f"{what}, {policy}", *cells])
    return _table(["µs, median / p99", *(f"{count} replicas" for count in counts)], rows)


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "E1": signals,
    "E2": policies,
    "E3": policies,
    "E4": moving,
    "E5": capacity,
    "E10": ablation,
    "E11": cost,
}


def _of(experiment: str, kind: Kind) -> Callable[[Any], str]:
    def made(_: object) -> str:
        document = read(experiment, kind)
        return _MAKERS[experiment](document) if document else f"Not measured by {kind.value}."

    return made


def _verdicts_of(kind: Kind) -> Callable[[Any], str]:
    def made(_: object) -> str:
        found = [document for name in EXPERIMENTS if (document := read(name, kind))]
        return f"{NOTES[kind]}.\n\n{verdicts(found)}" if found else f"Nothing was measured by {kind.value}."

    return made


TABLES: Mapping[str, Callable[[Any], str]] = {
    **{f"scheduling_verdicts_{kind.value}": _verdicts_of(kind) for kind in Kind},
    **{f"scheduling_{name.lower()}_{kind.value}": _of(name, kind) for name in EXPERIMENTS for kind in Kind},
}
"""By the name that marks their place in the README: ``scheduling_e2_simulation``."""
