"""Certificates as PEM, without reading them.

General libraries read what they write, and refuse the serial number 0, which every VCEK's certificate has.

Source: RFC 7468, section 5; AMD 57230, section 2.
"""

import base64

_LINE_CHARACTERS = 64


def encode_pem(der: bytes) -> str:
    """Return one certificate as strict PEM: lines of 64 characters, ended by LF."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + _LINE_CHARACTERS] for start in range(0, len(text), _LINE_CHARACTERS)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
