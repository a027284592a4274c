"""Which files make an enclave under Gramine: one folder with everything that is loaded into it.

The interpreter, the standard library, the role's distributions and the package are those of the simulated
platform's image. Besides them lie the C library that Gramine brings (``runtime/``) and the operating system's
shared libraries that anything here needs (``system/``). The simulation is left out.

Source: docs/spec/gramine-image.md.
"""

import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3ml.apps.images.elf import needed_libraries
from s3ml.apps.images.plans import RUNTIME, SIMULATION, SYSTEM
from s3ml.attestation.simulated.installed import SCRIPT, SITE, installed_files
from s3ml.attestation.simulated.launch import ROLES, Role
from s3ml.primitives.errors import ConfigurationError

_SCRIPT = '''\
"""Enters the {role} of this image."""

import os
import sys

IMAGE = os.path.dirname(os.path.abspath(__file__))

sys.path[:] = [entry for entry in sys.path if entry.startswith(IMAGE + os.sep) and os.path.isdir(entry)]
sys.path.append(os.path.join(IMAGE, "{site}"))

from s3ml.apps.processes.{module} import main

sys.exit(main())
'''


def enclave_files(
    role: Role,
    *,
    runtime: Path,
    system: Iterable[Path] | None = None,
    package: Path | None = None,
    additions: tuple[str, ...] = (),
) -> dict[str, Path | bytes]:
    """Return what an image of `role` holds: the path in the image, and the file or the bytes to be there.

    Args:
        role: Whose distributions and whose start.
        runtime: The folder of the C library that Gramine brings.
        system: Where the operating system keeps its libraries, in the order of a search; this machine's
            folders when it is None.
        package: The folder to take for the package ``s3ml``; the running one when it is None.
        additions: Distributions besides the role's.

    Raises:
        ConfigurationError: A distribution is missing, `runtime` holds no dynamic loader, or a library that is
            needed is nowhere.
    """
    files = {
        path: origin
        for path, origin in installed_files(role, package, additions).items()
        if not path.startswith(SIMULATION)
    }
    files[SCRIPT] = launch_script(role)
    brought = _runtime_files(runtime)
    folders = tuple(system_folders() if system is None else system)
    files.update({f"{SYSTEM}/{name}": path for name, path in _libraries(files, brought, folders).items()})
    files.update({f"{RUNTIME}/{name}": path for name, path in brought.items()})
    return files


def launch_script(role: Role) -> bytes:
    """Return the bytes of the image's ``launch.py`` for `role`."""
    return _SCRIPT.format(role=role, module=ROLES[role].module, site=SITE).encode("ascii")


def system_folders() -> list[Path]:
    """Return the folders of this machine's shared libraries, in the order of a search."""
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    names = (f"/usr/lib/{triplet}", f"/lib/{triplet}", "/usr/lib64", "/lib64", "/usr/lib", "/lib")
    return [Path(name) for name in names]


def _runtime_files(runtime: Path) -> dict[str, Path]:
    """Return the libraries in `runtime` by name; links are followed, because an image has none."""
    files = {path.name: path.resolve() for path in runtime.glob("*.so*") if path.is_file()}
    if not any(name.startswith("ld-linux") for name in files):
        raise ConfigurationError(
            f"Gramine's runtime {runtime}: expected the folder of its C library with ld-linux-*.so.*, "
            "got none: install gramine, or name the folder with --runtime"
        )
    return files


def _libraries(
    files: Mapping[str, Path | bytes], brought: Mapping[str, Path], folders: tuple[Path, ...]
) -> dict[str, Path]:
    """Return the system's libraries that `files` need, directly or through each other, by name."""
    present = {path.rpartition("/")[2] for path in files} | brought.keys()
    waiting = [
        (path, origin)
        for path, origin in files.items()
        if isinstance(origin, Path) and (".so" in path.rpartition("/")[2] or path.startswith("bin/"))
    ]
    found: dict[str, Path] = {}
    while waiting:
        needing, origin = waiting.pop()
        for name in needed_libraries(origin):
            if name not in present and name not in found:
                found[name] = _find(name, folders, needing)
                waiting.append((name, found[name]))
    return found


def _find(name: str, folders: tuple[Path, ...], needing: str) -> Path:
    for folder in folders:
        if (path := folder / name).is_file():
            return path.resolve()
    looked = ", ".join(map(str, folders))
    raise ConfigurationError(
        f"library {name}: {needing} needs it; expected it in one of {looked}: install its package"
    )
