"""A manifest as it is read for the rules: options by dotted name, and what they mean for files.

Source: Gramine, "Manifest syntax".
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from s3ml.apps.images.plans import PLANS, EnclavePlan
from s3ml.attestation.simulated.launch import Role
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB

MANIFEST_LIMIT_BYTES: Final = 8 * MIB
FILE_SCHEME: Final = "file:"
# Tables whose keys are the author's own names, and not options.
_OPEN_TABLES: Final = frozenset({"loader.env"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A parsed manifest.

    Args:
        tree: The TOML document.
    """

    tree: Mapping[str, Any]

    def option(self, name: str) -> Any:
        """Return the value of an option by its dotted name, or None where it is absent."""
        value: Any = self.tree
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def options(self) -> Iterator[str]:
        """Yield the dotted name of every option that is set."""
        yield from _flatten("", self.tree)

    def environment(self) -> dict[str, Any]:
        """Return ``loader.env`` with fixed values as strings and everything else as it was written."""
        table = self.option("loader.env")
        if not isinstance(table, dict):
            return {}
        return {name: _fixed_value(value) for name, value in table.items()}

    def mounts(self) -> list[dict[str, Any]]:
        """Return ``fs.mounts``; what is no table counts as an empty one."""
        mounts = self.option("fs.mounts")
        return [mount if isinstance(mount, dict) else {} for mount in _as_list(mounts)]

    def trusted(self) -> list[tuple[Any, Any]]:
        """Return each trusted file's URI and digest; the digest is None where only a URI was written."""
        return [
            (entry.get("uri"), entry.get("sha256")) if isinstance(entry, dict) else (entry, None)
            for entry in _as_list(self.option("sgx.trusted_files"))
        ]

    def is_trusted(self, path: object) -> bool:
        """Return whether the file at `path` is one of the trusted files."""
        return any(uri == f"{FILE_SCHEME}{path}" for uri, _ in self.trusted())

    def plan(self) -> tuple[Role, EnclavePlan] | None:
        """Return the role that the manifest claims by its product id, with the role's plan."""
        product = self.option("sgx.isvprodid")
        if type(product) is not int:
            return None
        return next(((role, plan) for role, plan in PLANS.items() if plan.product_id == product), None)


def read_manifest(data: bytes) -> Reading:
    """Parse a manifest.

    Raises:
        ConfigurationError: It is longer than 8 MiB, or no TOML in UTF-8.
    """
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise ConfigurationError(f"manifest: expected at most {MANIFEST_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return Reading(tree=tomllib.loads(data.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"manifest: expected TOML: {str(error)[:200]}") from error


def _flatten(prefix: str, table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in _OPEN_TABLES:
            yield from _flatten(f"{name}.", value)
        else:
            yield name


def _fixed_value(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) and set(value) == {"value"} else value


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
