"""What the platform keeps on disk: its keys, and the images that it built.

Keys outlive a restart. Images do not: what lay on a disk meanwhile is no longer what was measured.
"""

import secrets
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from s3ml.attestation.evidence import Technology
from s3ml.attestation.simulated.bytecode import compile_bytecode
from s3ml.attestation.simulated.image import Digests, Image, ImageSource, build, measure
from s3ml.attestation.simulated.installed import check_distributions
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.quoter import Quoter
from s3ml.attestation.simulated.vendors import VendorPKI, create_pki, make_quoter, restore_pki
from s3ml.primitives.encoding import tagged
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.units import MIB

SEALING_KEY_TAG = "S3ML simulated sealing key v1"

CERTIFICATE_LEAD = timedelta(days=1)

_KEYS = "platform.key"
_SECRET_BYTES = 32
_IMAGES_LIMIT = 64


class _StoredKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pki: bytes
    sealing_secret: Annotated[bytes, msgspec.Meta(min_length=_SECRET_BYTES, max_length=_SECRET_BYTES)]
    simulates: Technology = Technology.SGX


class PlatformKeys:
    """The vendor's and the platform's keys.

    Args:
        pki: The certificates and the keys that sign quotes and collateral.
        sealing_secret: What sealing keys are derived from.
        simulates: Whose formats they make.
    """

    __slots__ = ("_sealing_secret", "pki", "simulates")

    def __init__(
        self, *, pki: VendorPKI, sealing_secret: SecretBytes, simulates: Technology = Technology.SGX
    ) -> None:
        self._sealing_secret = sealing_secret
        self.pki = pki
        self.simulates = simulates

    def quoter(self, tcb: str) -> Quoter:
        """Return what makes evidence with these keys.

        Args:
            tcb: The name of the state that the vendor says the platform is in.

        Raises:
            ConfigurationError: there is no such state.
        """
        return make_quoter(self.pki, self.simulates, tcb)

    def to_bytes(self) -> bytes:
        """Return everything, private keys included, for a file that only the platform reads."""
        return msgspec.json.encode(
            _StoredKeys(self.pki.to_bytes(), self._sealing_secret.reveal(), self.simulates)
        )

    def sealing_key(self, measurement: str) -> bytes:
        """Return the 32 secret bytes that belong to `measurement` on this platform."""
        info = tagged(SEALING_KEY_TAG, bytes.fromhex(measurement))
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._sealing_secret.reveal())


def open_keys(state: Path, *, now: datetime, simulates: Technology = Technology.SGX) -> PlatformKeys:
    """Load the keys in `state`, or make them; writes ``root.pem`` and ``root.der`` beside them.

    Args:
        state: The platform's folder, readable by nobody else.
        now: New certificates become valid a day before, aware UTC: clocks differ.
        simulates: Whose formats they make.

    Raises:
        ConfigurationError: The keys are damaged, readable by others, or for something else than
            `simulates`; or `state` cannot be written.
    """
    path = state / _KEYS
    if path.exists():
        keys = _load(path)
        if keys.simulates is not simulates:
            raise ConfigurationError(
                f"{state}: expected a platform that simulates {simulates}, got one that simulates "
                f"{keys.simulates}; use another folder"
            )
    else:
        pki = create_pki(simulates, now - CERTIFICATE_LEAD)
        sealing_secret = SecretBytes.random(_SECRET_BYTES)
        keys = PlatformKeys(pki=pki, sealing_secret=sealing_secret, simulates=simulates)
        write_atomically(path, keys.to_bytes(), mode=0o600)
    write_atomically(state / "root.pem", keys.pki.root_pem)
    write_atomically(state / "root.der", keys.pki.root_der)
    return keys


def _load(path: Path) -> PlatformKeys:
    remedy = "restore it, or remove it for a new root and new sealing keys"
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"{path}: expected mode 0600, got one that lets others read; chmod 600 it")
    data = read_limited(path, limit_bytes=MIB, what="platform keys")
    try:
        stored = msgspec.json.decode(data, type=_StoredKeys)
        pki = restore_pki(stored.simulates, stored.pki)
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{path}: expected the platform's saved keys, got damage; {remedy}"
        ) from error
    secret = SecretBytes(stored.sealing_secret)
    return PlatformKeys(pki=pki, sealing_secret=secret, simulates=stored.simulates)


class ImageStore:
    """The images of one run of the platform, by role and measurement.

    Args:
        folder: Theirs alone; what lies there is removed.

    Raises:
        ConfigurationError: `folder` cannot be removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[tuple[Role, str], Image] = {}
        self._digests = Digests()
        self.remove()
        self._folder.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove every image and the folder.

        Raises:
            ConfigurationError: The folder cannot be removed.
        """
        self._images.clear()
        try:
            if self._folder.exists():
                shutil.rmtree(self._folder)
        except OSError as error:
            raise ConfigurationError(f"{self._folder}: cannot be removed: {error.strerror}") from error

    def obtain(self, role: Role, package: Path | None) -> Image:
        """Return the image of `role` as it is installed now, built unless an equal one is there; blocks.

        Raises:
            ConfigurationError: The image cannot be built, or there are too many.
        """
        source = ImageSource.installed(role, package)
        if self._images:
            known = self._images.get((role, measure(source, digests=self._digests)))
            if known is not None:
                return known
        if len(self._images) >= _IMAGES_LIMIT:
            raise ConfigurationError(f"images: expected at most {_IMAGES_LIMIT}; restart the platform")
        folder = self._folder / f"{role}-{secrets.token_hex(4)}"
        earlier = tuple(self._images.values())
        check_distributions(role)
        try:
            image = build(source, folder, reuse=earlier, digests=self._digests)
            compile_bytecode(image, reuse=earlier)
        except ConfigurationError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._images[role, image.measurement] = image
        return image


def open_folder(state: Path) -> None:
    """Make `state` a folder that only its owner enters.

    Raises:
        ConfigurationError: It is no folder, or belongs to somebody else.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"{state}: cannot be the platform's folder: {error.strerror}") from error
