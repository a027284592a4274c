"""Who a client says it is: a token, or a key that signs each request. Neither ever leaves outside the seal.

Source: docs/spec/callers.md.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import KIB

if TYPE_CHECKING:
    from s3ml.primitives.signing import SigningKey

TOKEN_LIMIT_BYTES = 8 * KIB
KEY_LIMIT_BYTES = 4 * KIB
# RFC 6750, section 2.1: b64token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


class Token:
    """A bearer token (JWT); its `repr` says nothing.

    Args:
        text: As its issuer gave it; white space around it does not count.

    Raises:
        ConfigurationError: it is empty, longer than 8 KiB, or no token.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        text = text.strip()
        if len(text) > TOKEN_LIMIT_BYTES or not _TOKEN.fullmatch(text):
            raise ConfigurationError(f"token: expected at most {TOKEN_LIMIT_BYTES} characters of a JWT")
        self._text = text

    def reveal(self) -> str:
        """Return the token itself; the call says that a secret leaves here."""
        return self._text

    def __repr__(self) -> str:
        return "Token(redacted)"


@dataclass(frozen=True, slots=True)
class CallerKey:
    """A key whose public half a service names among its callers."""

    key: "SigningKey"

    @classmethod
    def read(cls, path: Path | str) -> "CallerKey":
        """Read a private key, as `s3ml key generate` writes it.

        Raises:
            ConfigurationError: the file is missing, or no Ed25519 key in PEM.
        """
        from s3ml.primitives.signing import SigningKey  # noqa: PLC0415 - its library is for those who sign

        data = read_limited(Path(path), limit_bytes=KEY_LIMIT_BYTES, what="private key")
        try:
            return cls(SigningKey.from_pem(data))
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error


Credentials = Token | CallerKey | Callable[[], str | Token]
