"""Bytecode of an image, made by the platform from the measured copy.

It lies beside the copy and is not measured, because it adds nothing to what was: the image's own interpreter
makes it out of the image's own sources, after they were measured, in a folder that only the platform writes.
An enclave process finds it, and starts in a third of the time.

Source: PEP 552 (unchecked hash-based bytecode, which depends on the source alone).
"""

import contextlib
import importlib.util
import os
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from s3ml.attestation.simulated.image import Image
from s3ml.attestation.simulated.instances import die_with_parent
from s3ml.primitives.errors import ConfigurationError

_COMPILE = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-i", "-")
_MANY = 100
_WORKERS = 2
_DEADLINE_S = 120


def compile_bytecode(image: Image, *, reuse: Iterable[Image] = ()) -> None:
    """Compile every module of `image`, or share what an earlier image compiled from the same bytes.

    A source that does not compile is left to fail when it is imported.

    Raises:
        ConfigurationError: The image's interpreter does not run, or the disk is full.
    """
    earlier, rest = tuple(reuse), list[Path]()
    try:
        for path in image.files:
            if path.endswith(".py") and "/" in path and not _share(image, path, earlier):
                rest.append(image.root / path)
        if rest:
            _compile(image, rest)
    except OSError as error:
        raise ConfigurationError(f"image {image.root}: bytecode: {error.strerror}") from error


def _share(image: Image, path: str, earlier: Iterable[Image]) -> bool:
    for other in earlier:
        compiled = _compiled(other.root / path)
        if other.files.get(path) == image.files[path] and compiled.exists():
            target = _compiled(image.root / path)
            target.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):
                target.hardlink_to(compiled)
                return True
    return False


def _compile(image: Image, sources: Iterable[Path]) -> None:
    sources = tuple(sources)
    workers = ("-j", str(_WORKERS)) if len(sources) >= _MANY else ()
    command = (image.argv[0], "-I", "-S", "-B", *_COMPILE, *workers, "-s", str(image.root))
    done = subprocess.run(  # noqa: S603 (the image's own interpreter)
        command,
        input="".join(f"{source}\n" for source in sources).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=dict(image.environment),
        preexec_fn=partial(die_with_parent, os.getpid()),
        timeout=_DEADLINE_S,
        check=False,
    )
    compiled = [path for path in map(_compiled, sources) if path.exists()]
    if not compiled:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigurationError(
            f"image {image.root}: its interpreter compiled nothing: status {done.returncode}: {reason}"
        )
    for path in compiled:
        path.chmod(0o444)


def _compiled(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))
