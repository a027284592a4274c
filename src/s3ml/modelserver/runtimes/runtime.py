"""The seam between the model server and whatever computes a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from s3ml.primitives.errors import ConfigurationError

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


class ModelUnusableError(ConfigurationError):
    """A model cannot be opened by its runtime.

    Args:
        message: Why, without what is inside the model.
        told: The runtime's own words, which may name that: for the model's owner alone, never for a log.
    """

    def __init__(self, message: str, *, told: str = "") -> None:
        super().__init__(message)
        self.told = told


class RuntimeRefusedError(ConfigurationError):
    """A runtime cannot evaluate these inputs; without its reason, which may tell of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a model.

    Args:
        name: As the model names it.
        datatype: An Open Inference Protocol datatype.
        shape: Sizes; -1 where any size will do.
        symbols: Per dimension, a name that all variable dimensions of equal size share, or None.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    symbols: tuple[str | None, ...]


class Runtime(Protocol):
    """An opened model; `run` may be called from several threads at the same time.

    Its memory goes with the last reference to it.
    """

    @property
    def platform(self) -> str:
        """What computes it, in the words of the Open Inference Protocol."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """All inputs, in the model's order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """All outputs, in the model's order."""
        ...

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[Array]:
        """Compute `outputs`, in their order, from inputs that match `inputs`; blocking.

        Raises:
            RuntimeRefusedError: these inputs cannot be evaluated.
            MemoryError: there was too little memory.
        """
        ...
