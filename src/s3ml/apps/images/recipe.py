"""Writing an image: the folder that goes into the container, and the manifest with the digests of its bytes.

What is measured is what was written: the copy is hashed as it is made. A manifest that breaks a rule is not
written.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from s3ml.apps.images.contents import enclave_files
from s3ml.apps.images.lint import lint_manifest
from s3ml.apps.images.manifest import EnclaveShape, render_manifest
from s3ml.attestation.simulated.image import ImageSource, LaunchConfiguration, build
from s3ml.attestation.simulated.installed import check_distributions
from s3ml.attestation.simulated.launch import Role
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.units import KIB

CODE_FOLDER = "code"
MANIFEST_FILE = "enclave.manifest"
TEMPLATE_LIMIT_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenImage:
    """What was written.

    Args:
        manifest: The file for `gramine-sgx-sign`.
        sha256: The digest of the manifest, in hexadecimal. It is no MRENCLAVE, but part of what makes one.
        file_count: The number of trusted files.
        size_bytes: Their size together.
    """

    manifest: Path
    sha256: str
    file_count: int
    size_bytes: int


def write_image(
    role: Role,
    folder: Path,
    *,
    template: Path,
    shape: EnclaveShape,
    runtime: Path,
    package: Path | None = None,
    additions: tuple[str, ...] = (),
) -> WrittenImage:
    """Write an image to a new folder.

    Args:
        role: Whose image.
        folder: Does not exist yet; gets ``code/``, for `CODE` in the container, and ``enclave.manifest``.
        template: The manifest's template.
        shape: The numbers of the enclave.
        runtime: The folder of the C library that Gramine brings.
        package: The folder to take for the package ``s3ml``; the running one when it is None.
        additions: Distributions besides the role's.

    Raises:
        ConfigurationError: A file cannot be read or written, something that is needed is not installed, or
            the template makes a manifest that breaks a rule.
    """
    text = read_limited(template, limit_bytes=TEMPLATE_LIMIT_BYTES, what="template").decode(errors="replace")
    if package is None:
        check_distributions(role)
    files = enclave_files(role, runtime=runtime, package=package, additions=additions)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigurationError(f"{folder}: expected a new folder: {error.strerror}") from error
    source = ImageSource(files=files, launch=LaunchConfiguration(argv=()))
    image = build(source, folder / CODE_FOLDER)
    data = render_manifest(text, role, shape, image.files).encode()
    if findings := lint_manifest(data):
        first = f"{findings[0].rule}: {findings[0].message}"
        raise ConfigurationError(f"template {template}: breaks {len(findings)} rules, first {first}")
    write_atomically(folder / MANIFEST_FILE, data)
    return WrittenImage(
        manifest=folder / MANIFEST_FILE,
        sha256=hashlib.sha256(data).hexdigest(),
        file_count=len(image.files),
        size_bytes=sum(measured.size_bytes for measured in image.files.values()),
    )
