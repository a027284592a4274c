"""Cosignatures and verifier keys, byte by byte: ours, and those of a public witness."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from s3ml.primitives.encoding import from_base64
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.transparency.checkpoint import open_checkpoint
from s3ml.transparency.cosignature import WitnessKey, cosign, require_quorum, verified_cosignatures
from s3ml.transparency.note import Note

VECTOR = json.loads((Path(__file__).parent / "vectors" / "cosignature.json").read_text())


@pytest.mark.parametrize("case", VECTOR["cases"], ids=[case["title"] for case in VECTOR["cases"]])
class TestCosignatures:
    def test_they_hold(self, case: dict[str, Any]) -> None:
        witnesses = [WitnessKey.parse(key) for key in case["witnesses"]]
        assert [str(witness) for witness in witnesses] == list(case["witnesses"])
        expected = {
            witness.name: datetime.fromtimestamp(time, UTC)
            for witness, time in zip(witnesses, case["witnesses"].values(), strict=True)
        }
        assert require_quorum(case["note"], witnesses, len(witnesses)) == expected

    def test_the_log_signed(self, case: dict[str, Any]) -> None:
        origin, _, key = case["log"].split("+", 2)
        public = VerifyKey(from_base64(key, what="key")[1:])
        assert open_checkpoint(case["note"], origin=origin, key=public).origin == origin

    def test_they_hold_for_nothing_else(self, case: dict[str, Any]) -> None:
        size = Note.parse(case["note"]).text.split("\n")[1]
        other = case["note"].replace(f"\n{size}\n", f"\n{int(size) + 1}\n", 1)
        assert verified_cosignatures(other, [WitnessKey.parse(key) for key in case["witnesses"]]) == {}


def test_ours_are_made_alike() -> None:
    """Ed25519 is deterministic: the same key, time and text make the same line."""
    note = VECTOR["cases"][1]["note"]
    lines = note.partition("\n\n")[2].splitlines()
    for number, (key, time) in enumerate(VECTOR["cases"][1]["witnesses"].items()):
        made = cosign(
            note,
            name=WitnessKey.parse(key).name,
            key=SigningKey.from_raw(bytes([101 + number]) * 32),
            timestamp=datetime.fromtimestamp(time, UTC),
        )
        assert made == lines[1 + number]
