"""Owners decide who holds shares; nothing that could not be encrypted to, or combined, gets through."""

from typing import Any

import msgspec
import pytest

from s3ml.keyservice.documents import RecoveryDocument, RecoveryKey
from s3ml.keyservice.errors import RefusedError
from s3ml.keyservice.escrow import judge_recovery, warn_about_terms
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document
from tests.keyservice.escrow_world import HOLDERS, terms

# Points of order 1 and 2 of Curve25519, as recipients with a right checksum.
LOW_ORDER = (
    "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
    "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya",
)
# Another text of a good recipient: its four padding bits are not zero, and age reads it all the same.
SECOND_TEXT = "age1pyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqr3e7ws0d"


def body(threshold: int = 2, holders: tuple[RecoveryKey, ...] = HOLDERS[:3]) -> bytes:
    return encode_document(RecoveryDocument(threshold=threshold, recipients=holders))


def refused(data: bytes) -> list[tuple[str, str]]:
    with pytest.raises(RefusedError) as caught:
        judge_recovery(data)
    return [(one.claim, one.expected) for one in caught.value.mismatches]


class TestTerms:
    def test_two_of_three(self) -> None:
        judged = judge_recovery(body())
        assert (judged.threshold, judged.holders) == (2, HOLDERS[:3])

    def test_one_of_one(self) -> None:
        assert judge_recovery(body(1, HOLDERS[:1])).threshold == 1

    def test_a_name_twice(self) -> None:
        twin = msgspec.structs.replace(HOLDERS[1], name="ada")
        assert refused(body(1, (HOLDERS[0], twin))) == [("recipients", "each name once")]

    def test_a_recipient_twice(self) -> None:
        twin = msgspec.structs.replace(HOLDERS[0], name="bo")
        assert refused(body(1, (HOLDERS[0], twin))) == [("recipients", "each recipient once")]

    def test_a_threshold_that_nobody_reaches(self) -> None:
        assert refused(body(4)) == [("threshold", "at most 3 (the recipients)")]

    def test_a_slip_in_a_recipient(self) -> None:
        text = HOLDERS[0].recipient
        wrong = text[:-1] + ("q" if text[-1] != "q" else "p")
        holder = RecoveryKey(name="ada", recipient=wrong)
        assert refused(body(1, (holder,))) == [("recipient of ada", "an age recipient")]

    @pytest.mark.parametrize("recipient", LOW_ORDER)
    def test_a_point_of_low_order(self, recipient: str) -> None:
        """age would end the process of the key service over it."""
        holder = RecoveryKey(name="ada", recipient=recipient)
        assert refused(body(1, (holder,))) == [("recipient of ada", "an age recipient")]

    def test_a_second_text_of_one_recipient(self) -> None:
        """Otherwise one holder could stand twice, and be two of k."""
        holder = RecoveryKey(name="ada", recipient=SECOND_TEXT)
        assert refused(body(1, (holder,))) == [("recipient of ada", "an age recipient")]

    def test_all_that_is_wrong_is_listed(self) -> None:
        holder = RecoveryKey(name="ada", recipient=LOW_ORDER[0])
        assert len(refused(body(3, (holder, holder)))) == 5

    @pytest.mark.parametrize(
        "change",
        [
            {"threshold": 0},
            {"threshold": 17},
            {"recipients": []},
            {"version": 2},
            {"extra": 1},
            {"recipients": [{"name": "../ada", "recipient": HOLDERS[0].recipient}]},
            {"recipients": [{"name": "ada", "recipient": HOLDERS[0].recipient.upper()}]},
            {"recipients": [{"name": "ada", "recipient": "ssh-ed25519 AAAA"}]},
        ],
    )
    def test_what_is_no_document(self, change: dict[str, Any]) -> None:
        table = {**msgspec.json.decode(body()), **change}
        with pytest.raises(DocumentMalformedError):
            judge_recovery(msgspec.json.encode(table))

    def test_seventeen_holders(self) -> None:
        one = {"name": "ada", "recipient": HOLDERS[0].recipient}
        with pytest.raises(DocumentMalformedError):
            judge_recovery(msgspec.json.encode({"threshold": 1, "recipients": [one] * 17}))


class TestWarnings:
    def test_none_for_two_of_three(self) -> None:
        assert warn_about_terms(terms()) == ()

    def test_a_threshold_of_one(self) -> None:
        assert "SINGLE HOLDER" in warn_about_terms(terms(1))[0]

    def test_a_threshold_of_all(self) -> None:
        assert "EVERY holder" in warn_about_terms(terms(3))[0]
