"""Whether a model has the inputs and outputs that its owner declared."""

from collections.abc import Sequence

import msgspec

from s3ml.bundle import DeclaredTensor, ModelConfig
from s3ml.modelserver.runtimes.runtime import ModelUnusableError, Runtime, TensorSpec


def check_declared(config: ModelConfig, runtime: Runtime) -> None:
    """Accept a model that is what its listing says; what is not declared is not compared.

    Raises:
        ModelUnusableError: it names a tensor that the model lacks, lacks one that the model has, or gives
            another datatype or shape; all differences in `told`.
    """
    differences = [
        *_differences("input", config.inputs, runtime.inputs),
        *_differences("output", config.outputs, runtime.outputs),
    ]
    if differences:
        # Names and shapes are inside the seal; this line reaches the host's log.
        raise ModelUnusableError(
            f"model: {len(differences)} of its inputs and outputs are not as its bundle declares them: "
            "try it where it was packed",
            told="; ".join(differences),
        )


def declare(specs: Sequence[TensorSpec]) -> tuple[DeclaredTensor, ...]:
    """Return what an owner declares who takes the model at its word."""
    stated = [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]
    return msgspec.convert(stated, tuple[DeclaredTensor, ...])


def _differences(what: str, declared: Sequence[DeclaredTensor], specs: Sequence[TensorSpec]) -> list[str]:
    if not declared:
        return []
    said = {tensor.name: tensor for tensor in declared}
    had = {spec.name: spec for spec in specs}
    found = [f"{what} {name}: expected none, the model has it" for name in had.keys() - said.keys()]
    found += [f"{what} {name}: declared, and the model has none" for name in said.keys() - had.keys()]
    for name in said.keys() & had.keys():
        expected, got = said[name], had[name]
        if (expected.datatype, expected.shape) != (got.datatype, got.shape):
            found.append(
                f"{what} {name}: declared {expected.datatype} {list(expected.shape)}, "
                f"the model has {got.datatype} {list(got.shape)}"
            )
    return sorted(found)
