"""Rules about the start: the host chooses neither program nor arguments, and few settings."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from s3ml.apps.images.plans import ARGUMENTS, WITHHELD
from s3ml.apps.images.reading import FILE_SCHEME, Reading

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PRELOAD: Final = "LD_PRELOAD"
_PASSED: Final = {"passthrough": True}


def entrypoint(manifest: Reading) -> Iterator[str]:
    """The program and the script that it runs are the image's: both are measured."""
    program = manifest.option("libos.entrypoint")
    if program != ARGUMENTS[0]:
        yield f"libos.entrypoint: expected {ARGUMENTS[0]}, got {program!r}"
    for path in (ARGUMENTS[0], ARGUMENTS[-1]):
        if not manifest.is_trusted(path):
            yield f"libos.entrypoint: expected {path} among the trusted files, got none"


def arguments(manifest: Reading) -> Iterator[str]:
    """The arguments are in the manifest: an interpreter runs whatever its arguments say."""
    argv = manifest.option("loader.argv")
    if argv != list(ARGUMENTS):
        yield f"loader.argv: expected {list(ARGUMENTS)}, got {argv!r}"
    if manifest.option("loader.argv_src_file") is not None:
        yield "loader.argv_src_file: expected arguments in the manifest, got a file: use loader.argv"


def environment(manifest: Reading) -> Iterator[str]:
    """Fixed variables have the role's values; the one library that is preloaded is measured."""
    if manifest.option("loader.env_src_file") is not None:
        yield "loader.env_src_file: expected variables in the manifest, got a file: use loader.env"
    claimed = manifest.plan()
    if claimed is None:
        return
    found, plan = manifest.environment(), claimed[1]
    library = found.pop(_PRELOAD, None)
    if isinstance(library, str) and not manifest.is_trusted(library):
        yield f"loader.env.{_PRELOAD}: expected a trusted file, got {library!r}"
    for name, value in sorted(plan.fixed.items()):
        if found.get(name) != value:
            yield f"loader.env.{name}: expected {value!r}, got {found.get(name)!r}"
    for name in sorted(found.keys() - plan.fixed.keys() - set(plan.passed) - WITHHELD):
        if isinstance(found[name], str):
            yield f"loader.env.{name}: expected a variable that this role has, got another: leave it out"


def host_settings(manifest: Reading) -> Iterator[str]:
    """The host sets what the role's allow-list names, and nothing else."""
    claimed = manifest.plan()
    if claimed is None:
        return
    passed, decided = claimed[1].passed, WITHHELD | claimed[1].fixed.keys()
    for name, value in sorted(manifest.environment().items()):
        if isinstance(value, str) or name in decided:
            continue
        if value != _PASSED:
            yield f"loader.env.{name}: expected a text or {{ passthrough = true }}, got {value!r}"
        elif name not in passed:
            yield f"loader.env.{name}: expected one of {', '.join(passed)} from the host, got this one"


def tee_setting(manifest: Reading) -> Iterator[str]:
    """No variable says which TEE this is: who chooses that chooses the sealing key."""
    for name in sorted(WITHHELD & manifest.environment().keys()):
        yield f"loader.env.{name}: expected none, got one: the enclave finds its TEE by itself"


def library_os(manifest: Reading) -> Iterator[str]:
    """Where the library OS is named at all, its digest is, too."""
    table = manifest.option("loader.entrypoint")
    if table is None:
        return
    uri: Any = table.get("uri") if isinstance(table, dict) else table
    digest: Any = table.get("sha256") if isinstance(table, dict) else None
    is_measured = isinstance(digest, str) and _DIGEST.fullmatch(digest)
    if not (isinstance(uri, str) and uri.startswith(f"{FILE_SCHEME}/") and is_measured):
        yield f"loader.entrypoint: expected the uri of a file and its sha256, got {table!r}"


def pointer_checks(manifest: Reading) -> Iterator[str]:
    """The library OS checks the pointers that it is given."""
    checks = manifest.option("libos.check_invalid_pointers")
    if checks is not None and checks is not True:
        yield "libos.check_invalid_pointers: expected true, got something else: leave it out"


def gramine_log(manifest: Reading) -> Iterator[str]:
    """Gramine logs errors alone, to standard error; its other levels may leak."""
    level = manifest.option("loader.log_level")
    if level != "error":
        yield f'loader.log_level: expected "error", got {level!r}'
    if manifest.option("loader.log_file") is not None:
        yield "loader.log_file: expected standard error, got a file: leave it out"


def stop_signal(manifest: Reading) -> Iterator[str]:
    """A stop lets the server finish; without, it is killed."""
    if manifest.option("sys.enable_sigterm_injection") is not True:
        yield "sys.enable_sigterm_injection: expected true, got something else"


def one_process(manifest: Reading) -> Iterator[str]:
    """An enclave starts no other: a child would need as much memory again."""
    if manifest.option("sys.disallow_subprocesses") is not True:
        yield "sys.disallow_subprocesses: expected true, got something else"


LAUNCH_RULES: Final[Mapping[str, Callable[[Reading], Iterator[str]]]] = {
    "arguments": arguments,
    "entrypoint": entrypoint,
    "environment": environment,
    "gramine-log": gramine_log,
    "host-settings": host_settings,
    "library-os": library_os,
    "one-process": one_process,
    "pointer-checks": pointer_checks,
    "stop-signal": stop_signal,
    "tee-setting": tee_setting,
}
