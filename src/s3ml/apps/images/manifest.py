"""Gramine's manifest, rendered from a template and the digests of the files that were written.

The text depends on the template, the role, the shape of the enclave and the files alone: no date, no name of
a machine, no order of a folder. A template that names a value that there is none of is refused.

Source: Gramine, "Manifest syntax".
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2

from s3ml.apps.images.plans import ARGUMENTS, CODE, DATA, PLANS
from s3ml.attestation.simulated.image import Measured
from s3ml.attestation.simulated.launch import Role
from s3ml.primitives.errors import ConfigurationError

SIZE_PATTERN = re.compile(r"[1-9][0-9]{0,5}[MG]", re.ASCII)
# Gramine itself takes up to four: main, messages between processes, timers, handshakes of pipes.
THREADS_RANGE = (4, 1024)
SVN_RANGE = (1, 65_535)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveShape:
    """The numbers of an enclave; all of them are measured.

    Args:
        enclave_size: A power of two with ``M`` or ``G``. With `edmm` the most that it can grow to.
        threads: Thread slots, 4 to 1024.
        svn: ISVSVN, 1 to 65535: raised whenever an older build must no longer be accepted.
        edmm: Whether memory is added while the enclave runs, which needs a processor with SGX2.

    Raises:
        ConfigurationError: A number is out of range.
    """

    enclave_size: str
    threads: int
    svn: int = 1
    edmm: bool = False

    def __post_init__(self) -> None:
        if not is_size(self.enclave_size):
            raise ConfigurationError(
                f"enclave size: expected a power of two such as 512M or 2G, got {self.enclave_size[:40]!r}"
            )
        for name, value, (least, most) in (
            ("threads", self.threads, THREADS_RANGE),
            ("svn", self.svn, SVN_RANGE),
        ):
            if not least <= value <= most:
                raise ConfigurationError(f"{name}: expected {least} to {most}, got {value}")


def is_size(text: str) -> bool:
    """Return whether `text` is a size that an enclave can have: a power of two, in MiB or GiB."""
    return bool(SIZE_PATTERN.fullmatch(text)) and int(text[:-1]).bit_count() == 1


def render_manifest(template: str, role: Role, shape: EnclaveShape, files: Mapping[str, Measured]) -> str:
    """Return the manifest of an image.

    Args:
        template: Jinja; from this project's ``images/``, trusted.
        role: Whose manifest.
        shape: The numbers of the enclave.
        files: What was measured of every file, by its path in the image.

    Raises:
        ConfigurationError: The template is broken, or names a value that there is none of.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (TOML, not HTML: the filter `toml` quotes)
    )
    environment.filters["toml"] = quote
    plan = PLANS[role]
    try:
        return environment.from_string(template).render(
            role=role,
            arguments=ARGUMENTS,
            code=CODE,
            data=DATA,
            product_id=plan.product_id,
            fixed=sorted({**plan.fixed, **preload(files)}.items()),
            passed=sorted(plan.passed),
            enclave_size=shape.enclave_size,
            threads=shape.threads,
            svn=shape.svn,
            edmm=shape.edmm,
            trusted=[(path, files[path].sha256) for path in sorted(files, key=str.encode)],
        )
    except jinja2.TemplateError as error:
        raise ConfigurationError(f"template: cannot be rendered: {error}") from error


def preload(files: Mapping[str, Measured]) -> dict[str, str]:
    """Return the variable that names the image's own ``libpython``, where the interpreter has one.

    The interpreter looks for it at an absolute path that was compiled in, where an image has nothing.
    """
    library = next((path for path in sorted(files) if path.startswith("lib/libpython")), None)
    return {} if library is None else {"LD_PRELOAD": f"{CODE}/{library}"}


def quote(text: str) -> str:
    """Return `text` as a basic string of TOML.

    Raises:
        ConfigurationError: It holds a character that is not printable.
    """
    if not text.isprintable():
        raise ConfigurationError(f"manifest: expected printable characters, got {text[:80]!r}")
    return json.dumps(text, ensure_ascii=False)
