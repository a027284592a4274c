"""Key files: a private PEM of mode 0600 beside a one-line public key."""

from pathlib import Path

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.primitives.units import KIB

_LIMIT_BYTES = 16 * KIB


def generate_key_files(path: Path, *, replace: bool = False) -> VerifyKey:
    """Make a key and write ``<path>.key`` and ``<path>.pub``.

    Raises:
        ConfigurationError: a file is there already and `replace` is false, or it cannot be written.
    """
    private_path, public_path = Path(f"{path}.key"), Path(f"{path}.pub")
    for existing in (private_path, public_path):
        if existing.exists() and not replace:
            raise ConfigurationError(f"{existing}: exists already; choose another name, or use --force")
    key = SigningKey.generate()
    write_atomically(private_path, key.to_pem(), mode=0o600)
    write_atomically(public_path, f"{key.public}\n".encode())
    return key.public


def read_signing_key(path: Path) -> SigningKey:
    """Read a private key.

    Raises:
        ConfigurationError: the file is missing, no Ed25519 PEM, or the public half.
    """
    data = read_limited(path, limit_bytes=_LIMIT_BYTES, what="private key")
    if data.startswith(b"ed25519:"):
        raise ConfigurationError(f"{path}: is a public key; give the .key file to sign")
    try:
        return SigningKey.from_pem(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_verify_key(path: Path) -> VerifyKey:
    """Read a public key.

    Raises:
        ConfigurationError: the file is missing or no public key of ours.
    """
    data = read_limited(path, limit_bytes=_LIMIT_BYTES, what="public key")
    try:
        return VerifyKey.parse(data.decode("utf-8", errors="replace"))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
