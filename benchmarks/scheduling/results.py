"""Result documents of the scheduling experiments: one file for each experiment and kind.

A document is ``benchmarks/results/scheduling-<experiment>-<simulated|emulated>.json``::

    {experiment, title, kind, note, is_quick, machine, settings, seeds,
     runs: [{policy, seed, arrivals, ...summary}], verdicts: [{target, aim, got, is_met, why}], ...more}

`runs` holds what :func:`benchmarks.scheduling.summaries.summarise` returns beside policy, seed and arrivals,
so that simulation and emulation can be laid side by side. A verdict on a target that was missed says by how
much and why.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.summaries import RESULTS, write


class Kind(StrEnum):
    """Where figures come from."""

    SIMULATION = "simulation"
    EMULATION = "emulation"


NOTES = {
    Kind.SIMULATION: "SIMULATION: a discrete-event model; no TEE memory and no SGX hardware was used",
    Kind.EMULATION: "EMULATION: real processes under a memory cgroup as EPC; no SGX hardware was used",
}
SUFFIXES = {Kind.SIMULATION: "simulated", Kind.EMULATION: "emulated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one target.

    Args:
        target: What is asked, in words.
        aim: The bound, with its unit and direction: "at most 0.5 times".
        got: What was measured, in the same unit.
        is_met: Whether the aim is reached.
        why: Where it was missed: by how much and why. May be empty where it was met.
    """

    target: str
    aim: str
    got: str
    is_met: bool
    why: str = ""

    def __post_init__(self) -> None:
        """A miss without a reason is none that anybody can learn from."""
        if not self.is_met and not self.why:
            raise ValueError(f"verdict on {self.target!r}: expected why it was missed, got nothing")


def name_of(experiment: str, kind: Kind) -> str:
    """Return the name of a document without its ending: "scheduling-e2-simulated"."""
    return f"scheduling-{experiment.lower()}-{SUFFIXES[kind]}"


def document(
    experiment: str,
    kind: Kind,
    *,
    title: str,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    runs: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    is_quick: bool,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a whole document, with the machine as it is now.

    Args:
        experiment: "E1" to "E11".
        kind: Where the figures come from.
        title: One line for people.
        settings: What must be known to run it again.
        seeds: Those of the runs; at least five unless quick.
        runs: One entry for each run, with `policy`, `seed` and `arrivals`.
        verdicts: One for each target; none where there is none.
        is_quick: A smoke run: its figures mean nothing.
        more: What only this experiment has, at the top level.
    """
    if not is_quick and len(set(seeds)) < 5:
        raise ValueError(f"{experiment}: expected at least 5 seeds, got {len(set(seeds))}")
    return {
        "experiment": experiment,
        "title": title,
        "kind": kind.value,
        "note": NOTES[kind],
        "is_quick": is_quick,
        "machine": machine.describe(),
        "settings": dict(settings),
        "seeds": list(seeds),
        "runs": [dict(run) for run in runs],
        "verdicts": [asdict(verdict) for verdict in verdicts],
        **(more or {}),
    }


def keep(found: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write a document under its own name; return the path."""
    return write(folder, name_of(found["experiment"], Kind(found["kind"])), dict(found))


def read(experiment: str, kind: Kind, folder: Path = RESULTS) -> dict[str, Any] | None:
    """Return a document that was kept, or None where there is none."""
    path = folder / f"{name_of(experiment, kind)}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def show(found: Mapping[str, Any]) -> str:
    """Return the verdicts of a document as lines for a terminal."""
    lines = [f"{found['experiment']} ({found['kind']}): {found['title']}"]
    for verdict in found["verdicts"]:
        word = "met" if verdict["is_met"] else "MISSED"
        lines.append(f"  {word}: {verdict['target']}: {verdict['got']}; aim: {verdict['aim']}")
        if verdict["why"]:
            lines.append(f"    {verdict['why']}")
    return "\n".join(lines)
