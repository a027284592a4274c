"""Which files of the running environment make an enclave: interpreter, standard library, distributions.

Nothing is copied or hashed here; the answer is a mapping from a path in the image to the file that is to be
there. What an enclave process cannot use is left out, because every file is measured and takes room.
Shared libraries of the operating system (the C library, on Debian also OpenSSL) are outside the image.

Source: the binary distribution format (RECORD), packaging.python.org; getpath.py of CPython.
"""

import csv
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import s3ml
from s3ml.attestation.simulated.launch import ROLES, Role, launch_script
from s3ml.primitives.errors import ConfigurationError

PYTHON = "bin/python3"
SCRIPT = "launch.py"
SITE = "site"

_UNUSED_FOLDERS = frozenset({"__pycache__", "test", "tests", "idle_test"})
_UNUSED_LIBRARY_FOLDERS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "tkinter",
        "turtledemo",
        "venv",
    }
)
_UNUSED_LIBRARY_FILES = frozenset({"sitecustomize.py", "usercustomize.py", "turtle.py"})
_UNUSED_EXTENSIONS = ("_ctypes_test.", "_test", "_tkinter.", "_xxtestfuzz.", "xxlimited")
_UNUSED_SUFFIXES = frozenset(
    {".a", ".bat", ".c", ".cc", ".cpp", ".exe", ".h", ".hpp", ".pxd", ".pxi", ".pyc", ".pyi", ".pyx"}
)
_UNUSED_IN_DISTRIBUTIONS = (
    "ai_edge_litert/aot/",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "ai_edge_litert/tools/",
    "ai_edge_litert/vendors/",
    "numpy/distutils/",
    "numpy/f2py/",
    "onnxruntime/backend/",
    "onnxruntime/capi/libonnxruntime.so.",
    "onnxruntime/datasets/",
    "onnxruntime/quantization/",
    "onnxruntime/tools/",
    "onnxruntime/transformers/",
)
_METADATA_FILES = frozenset({"METADATA", "entry_points.txt"})
_UNUSED_IN_PACKAGE = ("client/", "gateway/", "apps/processes/platform.py")
_USED_ALONE = {
    "apps/": ("__init__.py", "processes/"),
    "attestation/simulated/": ("__init__.py", "attester.py", "launch.py", "protocol.py"),
}


def installed_files(
    role: Role, package: Path | None = None, additions: tuple[str, ...] = ()
) -> dict[str, Path | bytes]:
    """Return what an image of `role` holds: the path in the image, and the file or the bytes to be there.

    Args:
        role: Whose distributions and whose start.
        package: The folder to take for the package ``s3ml``; the running one when it is None.
        additions: Distributions besides the role's.

    Raises:
        ConfigurationError: A distribution is missing or no wheel installed it, or `package` is no package.
    """
    folder = Path(s3ml.__file__).parent if package is None else package
    files: dict[str, Path | bytes] = {SCRIPT: launch_script(role)}
    files.update(_interpreter())
    files.update(_standard_library())
    files.update(_distributions((*_roots(role), *additions)))
    files.update(_package(folder))
    return files


def check_distributions(role: Role) -> None:
    """Refuse distributions whose files another one overwrote: a process from such an image would not start.

    Only sizes are compared; what the files are is for the measurement to say.

    Args:
        role: Whose distributions.

    Raises:
        ConfigurationError: A file is missing, or has another size than when it was installed.
    """
    for distribution in _closure(_roots(role)):
        for text, _, size in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            path = Path(str(distribution.locate_file(text)))
            found = str(path.stat().st_size) if path.is_file() else "none"
            if size and found != size and _is_used(PurePosixPath(text)):
                name = distribution.metadata["Name"]
                raise ConfigurationError(
                    f"distribution {name}: {text}: expected the {size} bytes that were installed, "
                    f"got {found}; another distribution overwrote it: reinstall {name} in a clean environment"
                )


def preloaded(files: Iterable[str]) -> str | None:
    """Return the path in the image of the interpreter's shared library, or None where it has none."""
    return next((path for path in files if path.startswith("lib/libpython")), None)


def _interpreter() -> Mapping[str, Path]:
    """Return the running interpreter, and its shared library where the kernel mapped one."""
    files = {PYTHON: Path("/proc/self/exe").resolve()}
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        mapped = Path(line.split(maxsplit=5)[-1])
        if mapped.name.startswith(f"libpython{sys.version_info.major}.{sys.version_info.minor}"):
            files[f"lib/{mapped.name}"] = mapped
    return files


def _standard_library() -> Iterator[tuple[str, Path]]:
    folder = Path(sysconfig.get_path("stdlib"))
    prefix = f"{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}"

    def is_folder_used(path: PurePosixPath) -> bool:
        is_build = path.name.startswith("config-")
        return path.name not in _UNUSED_LIBRARY_FOLDERS and not is_build

    for path, origin in _walk(folder, is_folder_used):
        is_extension = path.parts[0] == "lib-dynload"
        if is_extension and (path.suffix != ".so" or path.name.startswith(_UNUSED_EXTENSIONS)):
            continue
        if (is_extension or path.suffix == ".py") and path.name not in _UNUSED_LIBRARY_FILES:
            yield f"{prefix}/{path}", origin


def _package(folder: Path) -> Iterator[tuple[str, Path | bytes]]:
    if not (folder / "__init__.py").is_file():
        raise ConfigurationError(
            f"package {folder}: expected the folder of the package s3ml, got no __init__.py"
        )
    about = f"Metadata-Version: 2.1\nName: s3ml\nVersion: {s3ml.__version__}\n"
    yield f"{SITE}/s3ml-{s3ml.__version__}.dist-info/METADATA", about.encode()
    for path, origin in _walk(folder, lambda _: True):
        if _is_used_in_package(path):
            yield f"{SITE}/s3ml/{path}", origin


def _is_used_in_package(path: PurePosixPath) -> bool:
    """Leave out the host's and the clients' parts, which no enclave process imports."""
    text = str(path)
    for prefix, used in _USED_ALONE.items():
        if text.startswith(prefix) and not text.removeprefix(prefix).startswith(used):
            return False
    return path.suffix not in _UNUSED_SUFFIXES and not text.startswith(_UNUSED_IN_PACKAGE)


def _walk(
    folder: Path, is_folder_used: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, Path]]:
    for root, folders, names in os.walk(folder):
        here = PurePosixPath(Path(root).relative_to(folder))
        folders[:] = [n for n in folders if n not in _UNUSED_FOLDERS and is_folder_used(here / n)]
        for name in names:
            yield here / name, Path(root, name)


def _distributions(roots: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for distribution in _closure(roots):
        if distribution.files is None:
            name = distribution.metadata["Name"]
            raise ConfigurationError(
                f"distribution {name}: expected one that a wheel installed, got no RECORD"
            )
        for file in distribution.files:
            if _is_used(file):
                yield f"{SITE}/{file}", Path(str(distribution.locate_file(file)))


def _roots(role: Role) -> tuple[str, ...]:
    """Return the role's distributions, and of the optional ones those that are installed."""
    plan = ROLES[role]
    return (*plan.distributions, *(name for name in plan.optional if _is_installed(name)))


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_used(path: PurePosixPath) -> bool:
    if path.is_absolute() or ".." in path.parts or path.suffix in _UNUSED_SUFFIXES:
        return False
    if path.parts[0].endswith(".dist-info"):
        return len(path.parts) == 2 and path.name in _METADATA_FILES  # noqa: PLR2004
    return not _UNUSED_FOLDERS.intersection(path.parts[:-1]) and not str(path).startswith(
        _UNUSED_IN_DISTRIBUTIONS
    )


def _closure(roots: Iterable[str]) -> Iterator[metadata.Distribution]:
    """Yield the distributions that `roots` need here, without any extra."""
    waiting, seen = [canonicalize_name(root) for root in roots], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
            needs = [Requirement(text) for text in distribution.requires or ()]
        except metadata.PackageNotFoundError as error:
            raise ConfigurationError(
                f"distribution {name}: not installed; install s3ml[local], which brings what an image needs"
            ) from error
        except InvalidRequirement as error:
            raise ConfigurationError(
                f"distribution {name}: its requirements cannot be read: {error}"
            ) from error
        waiting += [
            canonicalize_name(n.name) for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})
        ]
        yield distribution
