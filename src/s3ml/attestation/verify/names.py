"""Names in certificates: where they lie, and the common name in one.

`cryptography` has parsed the certificate before, so that its DER is known to be sound; it would make some
ten objects of every name, which costs more than all the rest of reading a certificate. Names are compared as
their bytes, as RFC 5280 lets an issuer write them and webpki compares them.

Source: RFC 5280, section 4.1 (TBSCertificate, Name); X.690, section 8.1 (tag, length, contents).
"""

from collections.abc import Iterator
from functools import lru_cache

_VERSION = 0xA0
_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}  # UTF8String, PrintableString, IA5String
_LONG_FORM = 0x80
_FIELDS_TO_SUBJECT = 5  # serial number, algorithm, issuer, validity, subject


def locate_names(tbs: bytes) -> tuple[bytes, bytes]:
    """Return issuer and subject (DER each) of what a certificate's signature covers.

    Args:
        tbs: DER that was parsed as a TBSCertificate before.
    """
    position, _ = _contents(tbs, 0)
    if tbs[position] == _VERSION:
        _, position = _contents(tbs, position)
    begins = []
    for _ in range(_FIELDS_TO_SUBJECT):
        length, start = tbs[position + 1], position + 2
        _, position = _contents(tbs, position) if length >= _LONG_FORM else (start, start + length)
        begins.append(position)
    _, issuer, validity, subject, end = begins
    return tbs[issuer:validity], tbs[subject:end]


@lru_cache(maxsize=128)  # vendors' names are few; at most 12 KiB each
def common_name(name: bytes) -> str:
    """Return the one common name in `name` (DER), which messages say.

    Raises:
        ValueError: none, two, unknown text, or text that is not printable.
    """
    found = []
    for relative, _ in _elements(name, *_contents(name, 0)):
        for attribute, end in _elements(name, *_contents(name, relative)):
            kind, _ = _contents(name, attribute)
            if name.startswith(_COMMON_NAME, kind):
                found.append(name[kind + len(_COMMON_NAME) : end])
    (text,) = found
    if text[0] not in _STRINGS:
        raise ValueError("expected a UTF8String, PrintableString or IA5String as common name")
    read = text[slice(*_contents(text, 0))].decode(_STRINGS[text[0]])
    if not read.isprintable():
        raise ValueError("expected a printable common name")
    return read


def _elements(der: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each element between `position` and `end` begins and ends."""
    while position < end:
        _, after = _contents(der, position)
        yield position, after
        position = after


def _contents(der: bytes, position: int) -> tuple[int, int]:
    """Return where the contents of the element at `position` begin and end."""
    length, start = der[position + 1], position + 2
    if length >= _LONG_FORM:
        size = length - _LONG_FORM
        length = int.from_bytes(der[start : start + size])
        start += size
    return start, start + length
