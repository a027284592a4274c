"""Who calls a service: the two options that say it, and what they name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from s3ml.apps.cli.options import FILE
from s3ml.apps.governance.keys import read_signing_key
from s3ml.client import CallerKey, Credentials, Token
from s3ml.client.credentials import TOKEN_LIMIT_BYTES
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited

F = TypeVar("F", bound=Callable[..., Any])


def credentials_options(function: F) -> F:
    """Add ``--token-file FILE`` and ``--caller-key FILE``."""
    key = click.option(
        "--caller-key", type=FILE, help="Call with this private key, which signs each request."
    )
    token = click.option(
        "--token-file", type=FILE, help="Call with the token (JWT) in this file; it leaves sealed only."
    )
    return token(key(function))


def read_credentials(
    token_file: Path | None, caller_key: Path | None, *, command: str
) -> Token | CallerKey | None:
    """Return what the options name.

    Raises:
        ConfigurationError: both are given, or a file does not hold what it should.
    """
    if token_file is not None and caller_key is not None:
        raise ConfigurationError(f"{command}: expected --token-file or --caller-key, got both")
    if caller_key is not None:
        return CallerKey(read_signing_key(caller_key))
    return None if token_file is None else read_token(token_file)


def renewed_credentials(
    token_file: Path | None, caller_key: Path | None, *, command: str
) -> Credentials | None:
    """Return what the options name, for a program that outlives a token: the file is read for each attempt.

    Raises:
        ConfigurationError: both are given, or a file does not hold what it should.
    """
    credentials = read_credentials(token_file, caller_key, command=command)
    if token_file is None:
        return credentials
    return lambda: read_token(token_file)


def read_token(path: Path) -> Token:
    """Read a token from a file.

    Raises:
        ConfigurationError: it cannot be read, or holds no token.
    """
    data = read_limited(path, limit_bytes=2 * TOKEN_LIMIT_BYTES, what="token")
    try:
        return Token(data.decode("utf-8", errors="replace"))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
