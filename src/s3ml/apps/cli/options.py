"""Options that several commands share, defined once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from s3ml.apps.governance.keys import read_verify_key
from s3ml.attestation import Technology
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.signing import VerifyKey
from s3ml.primitives.units import KIB
from s3ml.transparency.cosignature import WitnessKey

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def gateway_option(function: F) -> F:
    """Add ``--gateway URL``."""
    return click.option(
        "--gateway",
        metavar="URL",
        envvar="S3ML_GATEWAY",
        default="http://127.0.0.1:8080",
        show_default=True,
        help="Where the cluster answers; an address, never trust. [env: S3ML_GATEWAY]",
    )(function)


def trust_option(function: F) -> F:
    """Add ``--trust FILE``."""
    return click.option(
        "--trust",
        type=FILE,
        envvar="S3ML_TRUST",
        default=Path("trust.toml"),
        show_default=True,
        help="The trust file that the deployment's owners gave you. [env: S3ML_TRUST]",
    )(function)


def keys_option(function: F) -> F:
    """Add ``--key FILE``, once per signer."""
    return click.option(
        "--key",
        "keys",
        type=FILE,
        multiple=True,
        required=True,
        help="A private key to sign with; repeat it for several signers.",
    )(function)


def witnesses_option(function: F) -> F:
    """Add ``--witness KEY``, once per witness."""
    return click.option(
        "--witness",
        "witnesses",
        metavar="KEY|FILE.vkey",
        multiple=True,
        help="A witness's verifier key, or the file that holds it; repeat it. [default: none]",
    )(function)


def quorum_option(function: F) -> F:
    """Add ``--quorum N``."""
    return click.option(
        "--quorum", type=click.IntRange(0), help="How many witnesses commit. [default: two thirds of them]"
    )(function)


def read_owner(text: str) -> tuple[str, VerifyKey]:
    """Read ``NAME=FILE.pub``.

    Raises:
        ConfigurationError: another form, or no such file.
    """
    name, separator, path = text.partition("=")
    if not separator or not path:
        raise ConfigurationError(f"--owner: expected NAME=FILE.pub, got {text[:80]!r}")
    return name, read_verify_key(Path(path))


def read_witness(text: str) -> str:
    """Return a witness's verifier key from itself or from the file that holds it.

    Raises:
        ConfigurationError: it is neither.
    """
    if "+" in text:
        return str(WitnessKey.parse(text.strip()))
    data = read_limited(Path(text), limit_bytes=KIB, what="witness key")
    return str(WitnessKey.parse(data.decode("utf-8", errors="replace").strip()))


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")(function)


def allow_simulated_option(function: F) -> F:
    """Add ``--allow-simulated``."""
    return click.option(
        "--allow-simulated",
        is_flag=True,
        help="Accept a simulated platform, which protects nothing from its host.",
    )(function)


def simulates_option(function: F) -> F:
    """Add ``--simulates TECHNOLOGY``."""
    return click.option(
        "--simulates",
        type=click.Choice([str(technology) for technology in Technology]),
        default=str(Technology.SGX),
        show_default=True,
        callback=lambda _context, _parameter, value: Technology(value),
        help="Whose formats the simulated platform's evidence has.",
    )(function)


def simulation_root_option(function: F) -> F:
    """Add ``--simulation-root FILE``."""
    return click.option(
        "--simulation-root",
        type=FILE,
        help="The simulated platform's root certificate (PEM); only with --allow-simulated.",
    )(function)


def follow_option(function: F) -> F:
    """Add ``--follow-owners``."""
    return click.option(
        "--follow-owners",
        "is_following",
        is_flag=True,
        help="Accept the key service's policy that the owners signed last, instead of the trust file's.",
    )(function)
