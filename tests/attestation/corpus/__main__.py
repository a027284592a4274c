"""Write the corpus as files: `python -m tests.attestation.corpus FOLDER`.

Names are stable, keys are fresh: whoever compares two corpora compares names and outcomes.
"""

import json
import sys
from pathlib import Path
from typing import Any

from s3ml.attestation import Technology, encode_policy
from s3ml.attestation.verify.steps import STEPS
from tests.attestation.corpus.entries import ENTRIES, honest_worlds
from tests.attestation.corpus.lie import ACCEPTED, Case, Entry, Told

FORMAT_VERSION = 1


def write_corpus(folder: Path) -> None:
    """Write every lie with its honest twin, and an index.

    Args:
        folder: Is made where it is absent; nothing in it may be there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    worlds = honest_worlds()
    for entry in ENTRIES:
        _write_entry(folder / entry.name, entry, worlds[entry.technology])
    index = {
        "version": FORMAT_VERSION,
        "steps": {number: sorted(claims) for number, (_, claims) in enumerate(STEPS, start=1)},
        "lies": [_summary(entry) for entry in ENTRIES],
    }
    _write_json(folder / "index.json", index)


def _write_entry(folder: Path, entry: Entry, world: Told) -> None:
    honest, told = entry.honest(world), entry.told(world)
    folder.mkdir(parents=True)
    (folder / "evidence.json").write_bytes(told.evidence)
    (folder / "honest.json").write_bytes(honest.evidence)
    (folder / "policy.toml").write_bytes(encode_policy(told.policy))
    _write_json(folder / "expected.json", {**_summary(entry), **_asked(told), "honest": ACCEPTED})


def _summary(entry: Entry) -> dict[str, Any]:
    lie = entry.lie
    return {
        "name": entry.name,
        "technology": entry.technology,
        "result": lie.result,
        "step": lie.step,
        "breaks": lie.claims[0] if lie.claims else None,
        "claims": sorted(lie.claims),
    }


def _asked(case: Case) -> dict[str, str]:
    return {"report_data": case.report_data.hex(), "now": case.now.isoformat()}


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.attestation.corpus FOLDER")
    write_corpus(Path(sys.argv[1]))
    told = {one: sum(entry.technology is one for entry in ENTRIES) for one in Technology}
    counts = ", ".join(f"{one} {number}" for one, number in told.items())
    sys.stdout.write(f"{len(ENTRIES)} lies: {counts}\n")
