"""The rules that a manifest keeps, so that its measurement means what this project promises.

A rule is a function that yields what is wrong, a line each, and nothing where it is kept. Options that no
rule knows are refused: what is new in Gramine is not allowed before somebody looked at it.

Source: Gramine, "Manifest syntax"; docs/spec/gramine-image.md.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from s3ml.apps.images.reading import Reading, read_manifest
from s3ml.apps.images.rules_enclave import ENCLAVE_RULES
from s3ml.apps.images.rules_files import FILE_RULES
from s3ml.apps.images.rules_launch import LAUNCH_RULES

Rule = Callable[[Reading], Iterator[str]]

RULES: Final[Mapping[str, Rule]] = {**ENCLAVE_RULES, **FILE_RULES, **LAUNCH_RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a manifest breaks, and what was expected, what was got."""

    rule: str
    message: str


def lint_manifest(data: bytes) -> list[Finding]:
    """Return every rule that a manifest breaks, in the order of the rules' names.

    Args:
        data: The manifest, before or after `gramine-sgx-sign` wrote it again.

    Raises:
        ConfigurationError: It is no TOML, or too long.
    """
    reading = read_manifest(data)
    return [
        Finding(rule=name, message=message)
        for name, rule in sorted(RULES.items())
        for message in rule(reading)
    ]
