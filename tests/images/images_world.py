"""A manifest of the real template over a handful of files, and what stands in for Gramine."""

from pathlib import Path

from s3ml.apps.images.manifest import EnclaveShape, render_manifest
from s3ml.attestation.simulated.image import Measured
from s3ml.attestation.simulated.launch import Role

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "images/gramine/enclave.manifest.toml.j2"
SHAPE = EnclaveShape(enclave_size="512M", threads=32)
FILES = {
    path: Measured(sha256=f"{number:064x}", size_bytes=number)
    for number, path in enumerate(
        ("bin/python3", "launch.py", "lib/libpython3.11.so.1.0", "runtime/libc.so.6", "site/s3ml/__init__.py")
    )
}
# What Gramine's folder of its C library holds, by name: enough for a search of libraries to end there.
RUNTIME_FILES = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
)


def honest(role: Role = "key-service", shape: EnclaveShape = SHAPE) -> str:
    """Return a manifest that keeps every rule."""
    return render_manifest(TEMPLATE.read_text(encoding="utf-8"), role, shape, FILES)
