"""Cosignatures: which count, which do not, and that nobody can spoil those of others."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.encoding import to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.cosignature import (
    QuorumMissingError,
    WitnessKey,
    check_witnesses,
    cosign,
    has_quorum,
    quorum_instant,
    require_quorum,
    verified_cosignatures,
    with_cosignatures,
)
from s3ml.transparency.note import Note, NoteRejectedError, NoteSignature, SignatureType, note_key_id
from s3ml.transparency.witness.signer import WitnessSigner
from tests.clocks import NOW
from tests.transparency.transparency_world import LOG_KEY, ORIGIN, Branch, signer

ADA, BO, CY = signer(1), signer(2), signer(3)
WITNESSES = (ADA.public, BO.public, CY.public)
NOTE = Branch().note(7)


def line(witness: WitnessSigner = ADA, *, note: str = NOTE, at: datetime = NOW) -> str:
    return witness.cosign(note, timestamp=at)


def broken(text: str) -> str:
    parsed = NoteSignature.parse(text)
    flipped = parsed.signature[:-1] + bytes([parsed.signature[-1] ^ 1])
    return str(NoteSignature(name=parsed.name, key_id=parsed.key_id, signature=flipped))


def noted(*lines: str, note: str = NOTE) -> str:
    return note + "".join(f"{one}\n" for one in lines)


def stamped(seconds: int, *, witness: WitnessSigner = ADA, extra: bytes = b"") -> str:
    """A line with any timestamp, truly signed."""
    text = Note.parse(NOTE).text
    key = SigningKey.from_raw(bytes([101]) * 32)
    signature = key.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
    return str(
        NoteSignature(
            name=witness.public.name,
            key_id=witness.public.key_id,
            signature=seconds.to_bytes(8, "big") + signature + extra,
        )
    )


class TestWitnessKey:
    """A witness's key is one line, and a line that is off in any way is no key."""

    def test_it_reads_back(self) -> None:
        assert WitnessKey.parse(str(ADA.public)) == ADA.public
        assert str(ADA.public).startswith("witness.example/w1+")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "expected <name>"),
            ("name+00000000", "expected <name>"),
            (str(ADA.public).replace("w1+", "w2+"), "expected key id"),
            (str(ADA.public).replace("/w1", "/w 1"), "without spaces"),
            ("+00000000+BAAA", "Ed25519"),
            (
                f"n+{note_key_id('n', LOG_KEY.public).hex()}+{to_base64(b'%c' % 1 + LOG_KEY.public.raw)}",
                "type 04",
            ),
            ("n+00000000+", "got none"),
            ("n+00000000+!", "base64"),
            (f"n+0000000G+{to_base64(b'%c' % 4 + LOG_KEY.public.raw)}", "hexadecimal"),
            (f"n+00000000+{to_base64(b'%c' % 4 + bytes(31))}", "32 bytes"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why):
            WitnessKey.parse(text)

    @pytest.mark.parametrize("name", ["", "a b", "a\u00a0b", "a+b", "a\nb", "x" * 256, "a\u2003b"])
    def test_a_name_that_a_line_cannot_hold_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="witness name"):
            WitnessKey(name=name, key=LOG_KEY.public)

    def test_a_key_under_two_names_is_refused(self) -> None:
        twin = WitnessKey(name="other", key=ADA.public.key)
        with pytest.raises(ConfigurationError, match="each key once"):
            check_witnesses([ADA.public, twin])
        with pytest.raises(ConfigurationError, match="each key once"):
            verified_cosignatures(NOTE, [ADA.public, twin])

    def test_two_keys_under_one_name_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="each name"):
            check_witnesses([ADA.public, WitnessKey(name=ADA.public.name, key=LOG_KEY.public)])


class TestCounting:
    """A witness counts once, when its signature over this very text holds."""

    def test_those_that_hold_are_counted(self) -> None:
        note = noted(line(ADA), line(CY, at=NOW + timedelta(seconds=5)))
        assert verified_cosignatures(note, WITNESSES) == {
            ADA.public.name: NOW,
            CY.public.name: NOW + timedelta(seconds=5),
        }

    def test_repeated_lines_count_once_with_the_newest_time(self) -> None:
        later = NOW + timedelta(hours=1)
        note = noted(line(ADA), line(ADA, at=later), line(ADA), line(ADA, at=later))
        assert verified_cosignatures(note, WITNESSES) == {ADA.public.name: later}

    def test_a_broken_line_counts_nothing_and_spoils_nothing(self) -> None:
        note = noted(broken(line(ADA)), line(BO), broken(line(BO, at=NOW + timedelta(hours=1))))
        assert verified_cosignatures(note, WITNESSES) == {BO.public.name: NOW}

    def test_a_line_over_another_checkpoint_counts_nothing(self) -> None:
        assert verified_cosignatures(noted(line(note=Branch().note(8))), WITNESSES) == {}

    def test_extensions_are_covered(self) -> None:
        text = Note.parse(NOTE).text
        signatures = NOTE.removeprefix(text)
        note = text + "extension\n" + signatures
        assert verified_cosignatures(noted(line(), note=note), WITNESSES) == {}
        assert verified_cosignatures(noted(line(note=note), note=note), WITNESSES) != {}

    def test_unknown_witnesses_are_passed_over(self) -> None:
        assert verified_cosignatures(noted(line(signer(9)), line(BO)), WITNESSES) == {BO.public.name: NOW}

    def test_a_known_name_with_another_key_is_passed_over(self) -> None:
        impostor = WitnessSigner(ADA.public.name, LOG_KEY)
        assert verified_cosignatures(noted(line(impostor)), WITNESSES) == {}

    @pytest.mark.parametrize("seconds", [0, 2**63, 2**64 - 1, 253402300800])
    def test_a_time_that_cannot_be_counts_nothing(self, seconds: int) -> None:
        assert verified_cosignatures(noted(stamped(seconds)), WITNESSES) == {}

    def test_a_line_of_another_length_counts_nothing(self) -> None:
        assert verified_cosignatures(noted(stamped(1, extra=b"x")), WITNESSES) == {}
        assert verified_cosignatures(noted(stamped(1)), WITNESSES) != {}

    def test_a_plain_note_signature_is_no_cosignature(self) -> None:
        """The key id separates the two kinds, even where one key was used for both."""
        key_id = note_key_id(ADA.public.name, ADA.public.key)
        cosigned = NoteSignature.parse(line())
        plain = NoteSignature(name=cosigned.name, key_id=key_id, signature=cosigned.signature)
        assert verified_cosignatures(noted(str(plain)), WITNESSES) == {}

    def test_a_malformed_note_is_refused(self) -> None:
        with pytest.raises(NoteRejectedError):
            verified_cosignatures("nothing", WITNESSES)


class TestCosigning:
    def test_the_time_is_cut_to_seconds(self) -> None:
        assert line(at=NOW + timedelta(microseconds=999_999)) == line()

    @pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC)])
    def test_a_time_before_times_began_is_refused(self, at: datetime) -> None:
        with pytest.raises(ConfigurationError, match="after 1970"):
            line(at=at)

    def test_the_type_is_in_the_key_id(self) -> None:
        key = LOG_KEY.public
        assert note_key_id("n", key) != note_key_id("n", key, SignatureType.COSIGNATURE)
        made = NoteSignature.parse(cosign(NOTE, name="n", key=LOG_KEY, timestamp=NOW))
        assert made.key_id == note_key_id("n", key, SignatureType.COSIGNATURE)


class TestQuorum:
    def test_it_is_met_or_not(self) -> None:
        note = noted(line(ADA), line(BO))
        assert has_quorum(verified_cosignatures(note, WITNESSES), 2)
        assert require_quorum(note, WITNESSES, 2).keys() == {ADA.public.name, BO.public.name}
        with pytest.raises(QuorumMissingError, match=r"3 of 3 witnesses, got 2: .*w1, .*w2"):
            require_quorum(note, WITNESSES, 3)

    def test_one_witness_is_never_a_quorum_of_two(self) -> None:
        note = noted(line(ADA), line(ADA, at=NOW + timedelta(seconds=1)), broken(line(BO)))
        with pytest.raises(QuorumMissingError, match="got 1"):
            require_quorum(note, WITNESSES, 2)

    def test_none_needs_none(self) -> None:
        assert require_quorum(NOTE, (), 0) == {}
        with pytest.raises(QuorumMissingError, match="none"):
            require_quorum(NOTE, WITNESSES, 1)


class TestMerging:
    def test_it_is_idempotent_and_in_one_order(self) -> None:
        lines = [line(BO), line(ADA)]
        once = with_cosignatures(NOTE, lines, WITNESSES)
        assert once == noted(line(ADA), line(BO))
        assert with_cosignatures(once, reversed(lines), WITNESSES) == once
        assert with_cosignatures(once, [], WITNESSES) == once

    def test_the_newest_of_each_witness_stays(self) -> None:
        later = line(ADA, at=NOW + timedelta(seconds=9))
        first = with_cosignatures(NOTE, [line(ADA), later], WITNESSES)
        assert first == noted(later)
        assert with_cosignatures(first, [line(ADA)], WITNESSES) == first

    def test_what_does_not_hold_is_left_out(self) -> None:
        forged = broken(line(ADA, at=NOW + timedelta(days=1)))
        merged = with_cosignatures(
            noted(line(ADA), broken(line(BO))), [forged, "nonsense", "", line(signer(9))], WITNESSES
        )
        assert merged == noted(line(ADA))

    def test_lines_of_others_stay_in_front(self) -> None:
        note = noted(line(signer(9)))
        assert with_cosignatures(note, [line(ADA)], WITNESSES) == noted(line(signer(9)), line(ADA))

    def test_a_full_note_takes_no_more(self) -> None:
        note = noted(*(line(signer(n)) for n in range(10, 73)))
        assert len(Note.parse(note).signatures) == 64
        with pytest.raises(NoteRejectedError, match="at most 64"):
            with_cosignatures(note, [line(ADA)], WITNESSES)


class TestInstant:
    """A floor for clocks that few liars can neither raise too far nor keep down."""

    def test_without_a_quorum_there_is_none(self) -> None:
        assert quorum_instant({}, 0) is None
        assert quorum_instant({"a": NOW}, 2) is None
        assert quorum_instant({"a": NOW}, 0) is None

    def test_one_of_one_decides(self) -> None:
        assert quorum_instant({"a": NOW}, 1) == NOW

    def test_one_liar_of_two_cannot_raise_it(self) -> None:
        assert quorum_instant({"honest": NOW, "liar": NOW + timedelta(days=999)}, 2) == NOW

    def test_one_liar_of_three_can_do_nothing(self) -> None:
        honest = {"a": NOW, "b": NOW + timedelta(seconds=3)}
        for lie in (timedelta(days=999), -timedelta(days=999)):
            for quorum in (2, 3):
                assert quorum_instant({**honest, "liar": NOW + lie}, quorum) in honest.values()

    @given(st.data())
    def test_the_claims_of_its_docstring(self, data: st.DataObject) -> None:
        quorum = data.draw(st.integers(1, 7))
        seconds = st.integers(0, 1000).map(lambda s: NOW + timedelta(seconds=s))
        times = data.draw(st.lists(seconds, min_size=quorum, max_size=9))
        liars = data.draw(st.integers(0, len(times)))
        honest = sorted(times[liars:], reverse=True)
        instant = quorum_instant({str(n): at for n, at in enumerate(times)}, quorum)
        assert instant is not None
        k = quorum // 2 + 1
        assert sum(at >= instant for at in times) >= k
        if liars < k and honest:
            assert instant <= honest[0]
        if len(honest) >= k:
            assert instant >= honest[k - 1]
        if liars < quorum - k + 1:
            assert len(honest) >= k
        more = {**{str(n): at for n, at in enumerate(times)}, "more": data.draw(seconds)}
        raised = quorum_instant(more, quorum)
        assert raised is not None
        assert raised >= instant


class TestSigner:
    """The secret line reads back; nothing shows it."""

    def test_it_reads_back(self) -> None:
        again = WitnessSigner.parse(f" {ADA.to_text()}\n")
        assert again.public == ADA.public
        assert line(again) == line(ADA)

    def test_its_repr_shows_the_public_half(self) -> None:
        assert repr(ADA) == f"WitnessSigner({ADA.public})"

    def test_a_fresh_key_is_another(self) -> None:
        assert WitnessSigner.generate("n").public != WitnessSigner.generate("n").public

    @pytest.mark.parametrize(
        "text",
        [
            "",
            str(ADA.public),
            ADA.to_text().removeprefix("PRIVATE+KEY+"),
            ADA.to_text().replace("/w1", "/w2"),
            ADA.to_text()[:-4],
            ADA.to_text() + "!",
            "PRIVATE+KEY+n",
            f"PRIVATE+KEY+n+00000000+{to_base64(b'%c' % 1 + bytes(32))}",
        ],
    )
    def test_anything_else_is_refused_and_not_shown(self, text: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            WitnessSigner.parse(text)
        secret = ADA.to_text().rpartition("+")[2]
        assert secret[:20] not in str(refused.value)
        assert ORIGIN not in str(refused.value)
