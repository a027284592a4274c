"""The exact types of single fields in the documents, and the most that is read of each document.

Source: docs/spec/log.md, docs/spec/control-message.md, docs/spec/release.md, docs/spec/trust-bundle.md.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from s3ml.primitives.names import DIGEST_PATTERN, NAME_PATTERN, VERSION_PATTERN
from s3ml.primitives.units import KIB, MIB

RESOURCE_PATTERN = (
    r"\A(?:(?:policies|services|rotations|secrets)/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    r"|deployment/(?:owners|witnesses|key-service|recovery))\Z"
)
KEY_PATTERN = r"\Aed25519:[A-Za-z0-9+/]{43}=\Z"
INTAKE_KEY_BYTES = 1216

Digest = Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]
DigestOrNothing = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")]
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
ModelVersion = Annotated[str, msgspec.Meta(pattern=VERSION_PATTERN)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
ProofPath = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=64)]
PublicKeyText = Annotated[str, msgspec.Meta(pattern=KEY_PATTERN)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Version1 = Literal[1]

# The most that is ever read of each kind of message, in bytes of JSON.
GENESIS_LIMIT_BYTES = 256 * KIB
CONTROL_LIMIT_BYTES = 4 * MIB
REQUEST_LIMIT_BYTES = 256 * KIB
REPLY_LIMIT_BYTES = 8 * MIB
BUNDLE_LIMIT_BYTES = 4 * MIB
