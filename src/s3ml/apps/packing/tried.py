"""Trying a model before it is packed: it is opened as the model server will, on its owner's machine."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from s3ml.bundle import Declaration, ListedFile, ModelConfig, ModelFiles, Source, inspect_source
from s3ml.modelserver.batching import is_batchable
from s3ml.modelserver.runtimes import (
    ModelUnusableError,
    Runtime,
    declare,
    is_installed,
    missing_runtime,
    open_model,
)
from s3ml.primitives.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What opening a model showed.

    Args:
        declaration: The owner's, with the model's own inputs and outputs.
        runtime: The opened model.
    """

    declaration: Declaration
    runtime: Runtime


def try_model(source: Path, declaration: Declaration, *, leave_out: frozenset[str] = frozenset()) -> Tried:
    """Open a model in the runtime that will serve it, all in memory; blocking.

    1. Its files are those of a model.
    2. The runtime is installed and accepts it.
    3. Its inputs and outputs are the declared ones, where any are declared.
    4. It can be batched, where batches are declared.

    Args:
        source: A file, or a folder.
        declaration: What its owner says of it.
        leave_out: Names of files of the folder that are not the model's.

    Raises:
        ConfigurationError: one of these does not hold; in the runtime's own words, where it has some.
    """
    files = load_files(inspect_source(source, leave_out=leave_out), declaration)  # (1)
    if not is_installed(files.config.runtime):
        missing = missing_runtime(files.config.runtime)
        raise ConfigurationError(f"{source}: {missing}, or pack it untried with --no-try")
    try:
        runtime = open_model(files)  # (2) (3)
    except ModelUnusableError as error:
        told = f" ({error.told})" if error.told else ""
        raise ConfigurationError(f"{source}: {error}{told}") from error
    batching = declaration.batching
    if batching is not None and batching.max_size > 1:  # (4)
        check_batchable(runtime, source=source)
    return Tried(declaration=complete(declaration, runtime), runtime=runtime)


def load_files(source: Source, declaration: Declaration) -> ModelFiles:
    """Read a model into memory as if it came out of a bundle.

    Raises:
        ConfigurationError: a file cannot be read, or changes meanwhile.
    """
    contents = {file.name: b"".join(file.chunks()) for file in source.files}
    listed = tuple(
        ListedFile(name=name, size_bytes=len(data), sha256="0" * 64) for name, data in contents.items()
    )
    stated = msgspec.structs.asdict(declaration)
    config = ModelConfig(runtime=source.runtime, files=listed, **stated)
    return ModelFiles(config=config, files=MappingProxyType(contents))


def complete(declaration: Declaration, runtime: Runtime) -> Declaration:
    """Add what the model says of itself, and nobody declared."""
    return msgspec.structs.replace(
        declaration, inputs=declare(runtime.inputs), outputs=declare(runtime.outputs)
    )


def check_batchable(runtime: Runtime, *, source: Path) -> None:
    """Accept a model whose inputs and outputs all have rows.

    Raises:
        ConfigurationError: the first dimension of one does not vary; it is named.
    """
    if is_batchable(runtime.inputs, runtime.outputs):
        return
    fixed = next(spec for spec in (*runtime.inputs, *runtime.outputs) if spec.shape[:1] != (-1,))
    raise ConfigurationError(
        f"{source}: batching: expected a first dimension of any size (-1) everywhere, got {fixed.name} of "
        f"shape {list(fixed.shape)}: export the model with a variable first dimension, or pack it without"
    )
