"""TDX's event log is read exactly, and replays to what the registers hold."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import EvidenceMalformedError
from s3ml.attestation.simulated.tdx_event_log import (
    encode_event,
    encode_event_log,
    encode_spec_id,
    measured_event,
)
from s3ml.attestation.verify.intel.event_log import (
    EV_NO_ACTION,
    LoggedEvent,
    parse_event_log,
    replay,
    trim_event_log,
)
from tests.attestation.tdx_world import EVENTS, REGISTERS

HEAD = encode_spec_id()
LOG = encode_event_log(EVENTS)
ZERO = bytes(48)
# The first event of a log that firmware wrote on a real machine, as its tools print it.
FIRMWARE_HEAD = bytes.fromhex(
    "01000000 03000000 0000000000000000000000000000000000000000 21000000"
    "53706563204944204576656e74303300 00000000 0002 0002 01000000 0c00 3000 00"
)


def patched(offset: int, value: bytes) -> bytes:
    return LOG[:offset] + value + LOG[offset + len(value) :]


class TestParse:
    """What was written is read."""

    def test_every_field(self) -> None:
        events = (*EVENTS, LoggedEvent(index=0, kind=0x8000_000B, digest=b"\x11" * 48, data=b""))
        assert parse_event_log(encode_event_log(events)) == events

    def test_a_log_without_events(self) -> None:
        assert parse_event_log(HEAD) == ()

    def test_a_log_of_the_greatest_size(self) -> None:
        """48 KiB, in as many events as that holds."""
        events = [measured_event(number % 4, b"") for number in range(742)]
        room = 48 * 1024 - len(encode_event_log(events)) - 66
        log = encode_event_log([*events, measured_event(0, bytes(room))])
        assert len(log) == 48 * 1024
        assert len(parse_event_log(log)) == 743

    def test_the_first_event_is_that_of_real_firmware(self) -> None:
        assert HEAD == FIRMWARE_HEAD

    def test_the_vendors_information_is_skipped(self) -> None:
        longer = HEAD[:28] + (0x21 + 3).to_bytes(4, "little") + HEAD[32:-1] + b"\x03abc"
        assert parse_event_log(longer + LOG[len(HEAD) :]) == EVENTS


DAMAGE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "index of a register: expected 4 bytes, got 0"),
    "cut within the first event": (HEAD[:-1], "length of the vendor's information: expected 1 bytes, got 0"),
    "cut within an event": (LOG[: len(HEAD) + 65], "event: expected 66 bytes, got 65"),
    "cut within an event's data": (LOG[:-1], "data of an event: expected 13 bytes, got 12"),
    "a byte too many": (LOG + b"\x00", "event: expected 66 bytes, got 1"),
    "filling": (LOG + b"\xff" * 66, "index of a register: expected 0 to 4, got 4294967295"),
    "another first event": (patched(4, b"\x04"), "kind of the first event: expected 3, got 4"),
    "a first event with a digest": (patched(8, b"\x01"), "digest of the first event: expected 0, got 1"),
    "a first event for no register": (patched(0, b"\x05"), "index of a register: expected 0 to 4, got 5"),
    "an older format": (patched(32 + 13, b"02"), "signature: expected b'Spec ID Event03"),
    "another version": (patched(32 + 21, b"\x01"), "version of the specification: expected 2.0"),
    "two algorithms": (patched(32 + 24, b"\x02"), "number of algorithms: expected 1, got 2"),
    "SHA-256": (patched(32 + 28, b"\x0b"), "algorithm: expected 12, got 11"),
    "digests of 32 bytes": (patched(32 + 30, b"\x20"), "length of digests: expected 48, got 32"),
    "a first event too short": (patched(28, b"\x20"), "length of the first event: expected another, got 32"),
    "a first event too long": (patched(28, b"\x22"), "length of the first event: expected another, got 34"),
    "register 5": (patched(len(HEAD), b"\x05"), "index of a register: expected 0 to 4, got 5"),
    "two digests": (patched(len(HEAD) + 8, b"\x02"), "expected 1 of algorithm 12, got 2, the first of 12"),
    "a digest of SHA-256": (patched(len(HEAD) + 12, b"\x0b"), "expected 1 of algorithm 12, got 1, the first"),
    "too large": (LOG + bytes(48 * 1024), "expected at most 49152 bytes, got"),
}


class TestDamage:
    """The format is exact."""

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_damage_is_malformed(self, damage: str) -> None:
        data, reason = DAMAGE[damage]
        with pytest.raises(EvidenceMalformedError, match=r"\Aevent log: .*" + reason):
            parse_event_log(data)

    @given(data=st.binary(max_size=400), is_headed=st.booleans())
    @settings(max_examples=80, deadline=None)
    def test_any_bytes_are_a_log_or_malformed(self, data: bytes, *, is_headed: bool) -> None:
        log = HEAD + data if is_headed else data
        try:
            events = parse_event_log(log)
        except EvidenceMalformedError:
            return
        assert encode_event_log(events) == log

    @given(
        events=st.lists(
            st.builds(
                LoggedEvent,
                index=st.integers(0, 4),
                kind=st.integers(0, 2**32 - 1),
                digest=st.binary(min_size=48, max_size=48),
                data=st.binary(max_size=64),
            ),
            max_size=20,
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_any_events_survive(self, events: list[LoggedEvent]) -> None:
        assert parse_event_log(encode_event_log(events)) == tuple(events)


class TestReplay:
    """Digests extend their register, in order, from zeros."""

    def test_no_event_leaves_zeros(self) -> None:
        assert replay(()) == (ZERO,) * 4

    def test_a_register_is_extended_in_order(self) -> None:
        first, second = EVENTS[:2]
        once = hashlib.sha384(ZERO + first.digest).digest()
        assert REGISTERS[0] == hashlib.sha384(once + second.digest).digest()
        assert replay((second, first, *EVENTS[2:]))[0] != REGISTERS[0]

    @pytest.mark.parametrize("register", range(4))
    def test_each_index_is_a_register(self, register: int) -> None:
        event = measured_event(register, b"something")
        expected = [ZERO] * 4
        expected[register] = hashlib.sha384(ZERO + event.digest).digest()
        assert (event.index, event.register) == (register + 1, register)
        assert replay([event]) == tuple(expected)

    @pytest.mark.parametrize(
        "event",
        [
            LoggedEvent(index=0, kind=8, digest=b"\x01" * 48),
            LoggedEvent(index=1, kind=EV_NO_ACTION, digest=b"\x01" * 48),
        ],
    )
    def test_mrtd_and_no_action_extend_nothing(self, event: LoggedEvent) -> None:
        assert event.register is None
        assert replay([*EVENTS, event]) == REGISTERS


class TestTrim:
    """The unused end of the firmware's memory is cut where evidence is made."""

    @pytest.mark.parametrize("filling", [b"", b"\xff", b"\xff" * 7000, b"\x00" * 7000])
    def test_filling_is_cut(self, filling: bytes) -> None:
        assert trim_event_log(LOG + filling) == LOG

    def test_an_event_for_mrtd_is_no_filling(self) -> None:
        log = LOG + encode_event(LoggedEvent(index=0, kind=0, digest=ZERO))
        assert trim_event_log(log + b"\xff" * 64) == log

    @pytest.mark.parametrize(
        "change", [lambda log: log + b"\xff" * 70 + b"\x01", lambda log: log + b"\x01", lambda _: b""]
    )
    def test_anything_else_is_refused(self, change: Callable[[bytes], bytes]) -> None:
        with pytest.raises(EvidenceMalformedError, match="event log: "):
            trim_event_log(change(LOG))
