"""Names of services, models and versions, and digests in text: the same strict forms everywhere.

The patterns end with the end of the text, not with ``$``, which would let a trailing line feed pass.
"""

import re

from s3ml.primitives.errors import ConfigurationError

NAME_PATTERN = r"\A[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z"
VERSION_PATTERN = r"\A[1-9][0-9]{0,8}\Z"

DIGEST_PATTERN = r"\A[0-9a-f]{64}\Z"

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_VERSION = re.compile(VERSION_PATTERN, re.ASCII)


def check_name(name: str, *, what: str) -> str:
    """Return `name` when it is an RFC 1123 label: 1 to 63 of a-z, 0-9 and inner hyphens.

    Raises:
        ConfigurationError: it is not.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"{what}: expected 1 to 63 of a-z, 0-9 and inner hyphens, got {name[:80]!r}")
    return name


def check_version(version: str, *, what: str) -> str:
    """Return `version` when it is a positive decimal number of at most 9 digits, as Triton's are.

    Raises:
        ConfigurationError: it is not.
    """
    if not _VERSION.match(version):
        raise ConfigurationError(f"{what}: expected a positive decimal number, got {version[:80]!r}")
    return version
