"""Signed notes and checkpoints: what is accepted, and each way not to be."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.encoding import to_base64
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from s3ml.transparency.note import NoteRejectedError, open_note, sign_note

KEY = SigningKey.from_raw(bytes([5]) * 32)
OTHER = SigningKey.from_raw(bytes([6]) * 32)
ORIGIN = "s3ml/" + "ab" * 32
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, KEY)


class TestAccepted:
    def test_a_checkpoint_opens(self) -> None:
        assert open_checkpoint(NOTE, origin=ORIGIN, key=KEY.public) == CHECKPOINT

    def test_cosignatures_and_extensions_are_passed_over(self) -> None:
        text = CHECKPOINT.text() + "an extension\n"
        note = sign_note(text, KEY, name=ORIGIN)
        note += sign_note(text, OTHER, name="witness.example").rpartition("\n\n")[2]
        note += sign_note(text, OTHER, name=ORIGIN).rpartition("\n\n")[2]
        assert open_checkpoint(note, origin=ORIGIN, key=KEY.public) == CHECKPOINT

    def test_it_is_known_who_signed(self) -> None:
        assert open_note(NOTE, {ORIGIN: KEY.public, "other": OTHER.public}) == (
            CHECKPOINT.text(),
            frozenset({ORIGIN}),
        )


class TestRejected:
    @pytest.mark.parametrize(
        "note",
        [
            "",
            "text\n",
            NOTE.replace("7", "\ud800"),
            NOTE + "\u2014 na\u2003me AAAAAAAA\n",
            NOTE.replace("\n7\n", f"\n{2**63}\n"),
            NOTE.removesuffix("\n"),
            NOTE.replace("\n7\n", "\n8\n"),
            NOTE.replace("\n7\n", "\n7\r\n"),
            NOTE + "x" * 70000,
            NOTE + "— name AAAAAA==\n" * 64,
            NOTE + "— name\n",
            NOTE + "-- name AAAAAA==\n",
            NOTE + "— na+me AAAAAA==\n",
            NOTE + "— name AAAA\n",
            NOTE + "— name !!!!\n",
            NOTE.rpartition("\n\n")[0] + "\n\n\n",
        ],
    )
    def test_malformed_or_changed(self, note: str) -> None:
        with pytest.raises(NoteRejectedError):
            open_checkpoint(note, origin=ORIGIN, key=KEY.public)

    def test_an_origin_that_is_not_the_key_s_name(self) -> None:
        note = sign_note(f"other\n7\n{to_base64(bytes(32))}\n", KEY, name=ORIGIN)
        with pytest.raises(NoteRejectedError, match="expected the origin"):
            open_checkpoint(note, origin=ORIGIN, key=KEY.public)

    def test_an_empty_line(self) -> None:
        with pytest.raises(NoteRejectedError, match="no empty line"):
            parse_checkpoint(CHECKPOINT.text() + "\nmore\n")

    def test_a_size_that_no_log_has(self) -> None:
        with pytest.raises(NoteRejectedError, match="decimal size"):
            parse_checkpoint(f"x\n{2**63}\n{to_base64(bytes(32))}\n")

    def test_another_log(self) -> None:
        with pytest.raises(NoteRejectedError, match="expected a signature of s3ml/other"):
            open_checkpoint(NOTE, origin="s3ml/other", key=KEY.public)

    def test_another_key(self) -> None:
        with pytest.raises(NoteRejectedError, match="expected a signature"):
            open_checkpoint(NOTE, origin=ORIGIN, key=OTHER.public)

    @pytest.mark.parametrize(
        "text",
        [
            f"{ORIGIN}\n7\n",
            f"other\n7\n{to_base64(bytes(32))}\n",
            f"{ORIGIN}\n07\n{to_base64(bytes(32))}\n",
            f"{ORIGIN}\n-7\n{to_base64(bytes(32))}\n",
            f"{ORIGIN}\n٧\n{to_base64(bytes(32))}\n",
            f"{ORIGIN}\n{10**19}\n{to_base64(bytes(32))}\n",
            f"{ORIGIN}\n7\n{to_base64(bytes(31))}\n",
            f"{ORIGIN}\n7\n!\n",
        ],
    )
    def test_signed_nonsense(self, text: str) -> None:
        with pytest.raises(NoteRejectedError):
            open_checkpoint(sign_note(text, KEY, name=ORIGIN), origin=ORIGIN, key=KEY.public)

    @given(st.text(max_size=300))
    def test_anything_else_is_a_documented_error(self, note: str) -> None:
        with suppress(NoteRejectedError):
            assert open_note(note, {ORIGIN: KEY.public})[1] == frozenset()
