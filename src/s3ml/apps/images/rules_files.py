"""Rules about files: what an enclave reads is measured, authenticated by itself, or made by itself."""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from s3ml.apps.images.plans import CODE, DATA, SIMULATION
from s3ml.apps.images.reading import FILE_SCHEME, Reading

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HOST_FOLDERS: Final = {CODE: f"{FILE_SCHEME}{CODE}", DATA: f"{FILE_SCHEME}{DATA}"}
_ALLOWED: Final = f"{FILE_SCHEME}{DATA}/"
_MOUNT_TYPES: Final = ("chroot", "encrypted", "tmpfs")
_PLATFORM_KEY: Final = "_sgx_mrenclave"
# Gramine's own: the TEE is found in /dev/attestation.
_PSEUDO_FOLDERS: Final = ("/dev/", "/proc/", "/sys/")


def file_check(manifest: Reading) -> Iterator[str]:
    """A file that is neither trusted nor allowed cannot be opened."""
    if (policy := manifest.option("sgx.file_check_policy")) != "strict":
        yield f'sgx.file_check_policy: expected "strict", got {policy!r}'


def trusted_files(manifest: Reading) -> Iterator[str]:
    """Each trusted file is named by one full path under the code's folder, in order, and has its digest."""
    entries = manifest.trusted()
    if not entries:
        yield "sgx.trusted_files: expected the files of the image, got none"
    for uri, digest in entries:
        if not isinstance(uri, str) or not _is_below(uri, f"{FILE_SCHEME}{CODE}/"):
            yield f"sgx.trusted_files: expected a file below {FILE_SCHEME}{CODE}/, got {uri!r}"
        elif not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            yield f"sgx.trusted_files: {uri}: expected 64 lower-case hexadecimal digits, got {digest!r}"
    names = [uri.encode() for uri, _ in entries if isinstance(uri, str)]
    if any(name >= following for name, following in pairwise(names)):
        yield "sgx.trusted_files: expected each once, in the order of their bytes, got another order"


def allowed_files(manifest: Reading) -> Iterator[str]:
    """The host may change the data folder and nothing else. What is in it decides nothing: it is verified."""
    allowed = manifest.option("sgx.allowed_files")
    if allowed is not None and not isinstance(allowed, list):
        yield f"sgx.allowed_files: expected a list, got {allowed!r}"
        return
    for uri in allowed or ():
        if uri != _ALLOWED:
            yield f"sgx.allowed_files: expected {_ALLOWED} alone, got {uri!r}"


def root_folder(manifest: Reading) -> Iterator[str]:
    """The root is an empty folder in the enclave's memory; Gramine's default is the host's current folder."""
    root = manifest.option("fs.root")
    if root != {"type": "tmpfs"}:
        yield f'fs.root: expected {{ type = "tmpfs" }}, got {root!r}'


def mounts(manifest: Reading) -> Iterator[str]:
    """From the host come the folder of measured code and the folder of data, each under its own name."""
    for mount in manifest.mounts():
        kind, path, uri = mount.get("type", "chroot"), mount.get("path"), mount.get("uri")
        if not isinstance(path, str) or not _is_free(path):
            yield f"fs.mounts: expected a full path outside of /, /dev, /proc and /sys, got {path!r}"
        elif kind not in _MOUNT_TYPES:
            yield f"fs.mounts: expected one of {', '.join(_MOUNT_TYPES)}, got {kind!r} at {path!r}"
        elif kind == "chroot" and _HOST_FOLDERS.get(path) != uri:
            yield f"fs.mounts: expected {CODE} and {DATA} alone from the host, got {uri!r} at {path!r}"
    if not any(mount.get("path") == CODE for mount in manifest.mounts()):
        yield f"fs.mounts: expected {CODE}, got none"


def nested_mounts(manifest: Reading) -> Iterator[str]:
    """No mount lies in another or in its place: code would come from where code is not measured."""
    paths = [f"{mount.get('path')}/" for mount in manifest.mounts()]
    for number, path in enumerate(paths):
        for other in paths[:number]:
            if path.startswith(other) or other.startswith(path):
                yield f"fs.mounts: expected separate folders, got {path!r} and {other!r}"


def encrypted_mounts(manifest: Reading) -> Iterator[str]:
    """Encrypted files are under the key of this measurement; a signer's key is any other build's as well."""
    for mount in manifest.mounts():
        key = mount.get("key_name")
        if mount.get("type") == "encrypted" and key != _PLATFORM_KEY:
            yield f'fs.mounts: {mount.get("path")!r}: expected key_name "{_PLATFORM_KEY}", got {key!r}'


def simulation(manifest: Reading) -> Iterator[str]:
    """A production image leaves the simulated platform out."""
    prefix = f"{FILE_SCHEME}{CODE}/{SIMULATION}"
    for uri, _ in manifest.trusted():
        if isinstance(uri, str) and uri.startswith(prefix):
            yield f"sgx.trusted_files: expected nothing of the simulation, got {uri}"


def _is_free(path: str) -> bool:
    is_plain = path.startswith("/") and not path.startswith("//") and posixpath.normpath(path) == path
    return is_plain and path != "/" and not f"{path}/".startswith(_PSEUDO_FOLDERS)


def _is_below(uri: str, prefix: str) -> bool:
    parts = uri.removeprefix(prefix).split("/")
    return uri.startswith(prefix) and not any(part in {"", ".", ".."} for part in parts)


FILE_RULES: Final[Mapping[str, Callable[[Reading], Iterator[str]]]] = {
    "allowed-files": allowed_files,
    "encrypted-mounts": encrypted_mounts,
    "file-check": file_check,
    "mounts": mounts,
    "nested-mounts": nested_mounts,
    "root-folder": root_folder,
    "simulation": simulation,
    "trusted-files": trusted_files,
}
