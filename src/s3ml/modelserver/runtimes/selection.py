"""Which runtime opens a model: one table, and each runtime imported only when a model needs it."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

from s3ml.bundle import ModelFiles, RuntimeName
from s3ml.modelserver.runtimes.declared import check_declared
from s3ml.modelserver.runtimes.runtime import ModelUnusableError, Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    """How a runtime is reached.

    Args:
        module: Ours, with a function `open_model`.
        package: Theirs, which must be installed.
        extra: Installs it.
    """

    module: str
    package: str
    extra: str


RUNTIMES: Mapping[RuntimeName, RuntimeChoice] = MappingProxyType(
    {
        "onnx": RuntimeChoice(
            module="s3ml.modelserver.runtimes.onnx", package="onnxruntime", extra="modelserver"
        ),
        "litert": RuntimeChoice(
            module="s3ml.modelserver.runtimes.litert", package="ai_edge_litert", extra="litert"
        ),
    }
)


def open_model(files: ModelFiles) -> Runtime:
    """Open a decrypted model in the runtime that its bundle names; blocking.

    1. The runtime is installed.
    2. It accepts the model.
    3. The model's inputs and outputs are those that its bundle declares, if it declares any.

    Raises:
        ModelUnusableError: one of these does not hold.
        MemoryError: there was too little memory.
    """
    name = files.config.runtime
    open_in = _import(name)  # (1)
    runtime = open_in(files)  # (2)
    check_declared(files.config, runtime)  # (3)
    return runtime


def is_installed(name: RuntimeName) -> bool:
    """Tell whether a runtime's package is here, without importing it."""
    return find_spec(RUNTIMES[name].package) is not None


def import_only_runtime() -> None:
    """Import the runtime ahead of its first model where there is just one; with several, wait for a model."""
    installed = [name for name in RUNTIMES if is_installed(name)]
    if len(installed) == 1:
        _import(installed[0])


def missing_runtime(name: RuntimeName) -> ModelUnusableError:
    """Say which extra installs a runtime that is not here."""
    choice = RUNTIMES[name]
    return ModelUnusableError(
        f"model: its runtime {name} is not installed here: install it with pip install 's3ml[{choice.extra}]'"
    )


def _import(name: RuntimeName) -> Callable[[ModelFiles], Runtime]:
    if not is_installed(name):
        raise missing_runtime(name)
    open_in: Callable[[ModelFiles], Runtime] = importlib.import_module(RUNTIMES[name].module).open_model
    return open_in
