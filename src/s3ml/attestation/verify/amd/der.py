"""Reading DER strictly: one encoding of everything, exact lengths, nothing left over.

AMD's VCEK certificates have the serial number 0, and some of them write a default value out, so that general
readers refuse them or are going to. What AMD's documents consist of is little, and is read here.

Source: ITU-T X.690, sections 8 and 10 (DER); RFC 5280, section 4.1.2.5 (times).
"""

from datetime import UTC, datetime

from s3ml.attestation.errors import EvidenceMalformedError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_ID = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

_LONG_FORM = 0x80
_LONGEST_LENGTH_BYTES = 3
_TIME_FORMATS = {UTC_TIME: ("%y%m%d%H%M%SZ", 13), GENERALIZED_TIME: ("%Y%m%d%H%M%SZ", 15)}
_CENTURY_TURN = 50  # a UTCTime of year 50 or more is of the twentieth century
_TRUE = b"\xff"


class DerReader:
    """Takes elements off the front of what is DER.

    Args:
        data: From an untrusted peer.
        what: Names it in messages.
    """

    __slots__ = ("_data", "_end", "_position", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._position = 0
        self._end = len(data)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self._position == self._end

    def next_is(self, tag: int) -> bool:
        """Tell whether an element with `tag` follows."""
        return self._position < self._end and self._data[self._position] == tag

    def take(self, tag: int) -> bytes:
        """Return the content of the next element, which has `tag`.

        Raises:
            EvidenceMalformedError: another tag, too short, or a length that is not the shortest.
        """
        return self.take_both(tag)[1]

    def take_whole(self, tag: int) -> bytes:
        """Return the next element as it stands, with its tag and length; raises as `take`."""
        return self.take_both(tag)[0]

    def take_both(self, tag: int) -> tuple[bytes, bytes]:
        """Return the next element as it stands, and its content; raises as `take`."""
        start = self._position
        if not self.next_is(tag):
            raise self._malformed(f"an element with tag {tag:#04x} at byte {start}")
        content, size = self._read_length(start + 1)
        end = content + size
        if end > self._end:
            raise self._malformed(f"{size} bytes from byte {content} on")
        self._position = end
        return self._data[start:end], self._data[content:end]

    def enter(self, tag: int) -> "DerReader":
        """Return a reader of the content of the next element, which has `tag`; raises as `take`."""
        return DerReader(self.take(tag), self._what)

    def take_unsigned(self, limit_bytes: int) -> int:
        """Return the next element, an INTEGER that is not negative.

        Raises:
            EvidenceMalformedError: negative, longer than `limit_bytes`, or not in its shortest form.
        """
        content = self.take(INTEGER)
        is_padded = len(content) > 1 and content[0] == 0
        if not content or content[0] >= _LONG_FORM or (is_padded and content[1] < _LONG_FORM):
            raise self._malformed("an INTEGER in its shortest form that is not negative")
        if len(content) - is_padded > limit_bytes:
            raise self._malformed(f"an INTEGER of at most {limit_bytes} bytes")
        return int.from_bytes(content, "big")

    def take_true(self) -> bool:
        """Return whether a BOOLEAN follows, which then has to be TRUE, because FALSE is its default."""
        if not self.next_is(BOOLEAN):
            return False
        if self.take(BOOLEAN) != _TRUE:
            raise self._malformed("TRUE, or nothing")
        return True

    def take_bits(self) -> bytes:
        """Return the next element, a BIT STRING of whole bytes."""
        content = self.take(BIT_STRING)
        if content[:1] != b"\x00":
            raise self._malformed("a BIT STRING of whole bytes")
        return content[1:]

    def take_time(self) -> datetime:
        """Return the next element, a UTCTime or GeneralizedTime in UTC without fractions.

        Raises:
            EvidenceMalformedError: another tag, or another form.
        """
        tag = UTC_TIME if self.next_is(UTC_TIME) else GENERALIZED_TIME
        form, size = _TIME_FORMATS[tag]
        content = self.take(tag)
        text = content.decode("latin-1")
        is_plain = text[:-1].isascii() and text[:-1].isdigit() and text[-1:] == "Z"
        if len(text) != size or not is_plain:
            raise self._malformed("a time in UTC to the second")
        if tag == UTC_TIME:
            century = "19" if int(text[:2]) >= _CENTURY_TURN else "20"
            text, form = century + text, _TIME_FORMATS[GENERALIZED_TIME][0]
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError as error:
            raise self._malformed("a time that exists") from error

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            EvidenceMalformedError: something is.
        """
        if not self.is_at_end:
            raise self._malformed(f"an end at byte {self._position}")

    def _read_length(self, position: int) -> tuple[int, int]:
        """Return where the content begins, and its size."""
        if position >= self._end:
            raise self._malformed(f"a length at byte {position}")
        first = self._data[position]
        if first < _LONG_FORM:
            return position + 1, first
        count = first - _LONG_FORM
        octets = self._data[position + 1 : position + 1 + count]
        size = int.from_bytes(octets, "big")
        is_shortest = size >= _LONG_FORM and octets[:1] != b"\x00"
        if not 1 <= count <= _LONGEST_LENGTH_BYTES or len(octets) != count or not is_shortest:
            raise self._malformed(f"a length in its shortest form at byte {position}")
        return position + 1 + count, size

    def _malformed(self, expected: str) -> EvidenceMalformedError:
        return EvidenceMalformedError(f"{self._what}: expected {expected}, got other DER")
