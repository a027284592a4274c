"""Models that are loaded: one version each, and all of them together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from s3ml.bundle import Batching
from s3ml.modelserver.runtimes import Runtime

ModelKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class LoadedModel:
    """A model version that is ready to compute.

    Args:
        name: As its owner calls it.
        version: A positive number.
        manifest_sha256: The hexadecimal digest of its signed manifest.
        runtime: What computes it.
        batching: Whether and how its requests may be computed together.
        memory_bytes: What is held of the budget for it.
    """

    name: str
    version: str
    manifest_sha256: str
    runtime: Runtime
    batching: Batching | None = None
    memory_bytes: int = 0

    @property
    def key(self) -> ModelKey:
        """Its name and version."""
        return self.name, self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSet:
    """Everything that is loaded, by name and version; never changes, only gets replaced.

    Args:
        models: What is loaded.
        unloaded: Names of released models that callers unloaded, and may load again.
    """

    models: Mapping[ModelKey, LoadedModel] = field(default_factory=lambda: MappingProxyType({}))
    unloaded: frozenset[str] = frozenset()

    @property
    def is_servable(self) -> bool:
        """Whether there is something to ask for: a model, or one that a caller may load again."""
        return bool(self.models or self.unloaded)

    def find(self, name: str, version: str | None) -> LoadedModel | None:
        """Return a model; without a version, the one with the highest number."""
        if version is None:
            version = max(self.versions(name), key=int, default="")
        return self.models.get((name, version))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the loaded versions of a model, lowest first."""
        return tuple(sorted((v for n, v in self.models if n == name), key=int))

    def __len__(self) -> int:
        return len(self.models)
