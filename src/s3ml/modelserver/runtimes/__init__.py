"""What computes a model: one module per runtime, imported only when a model needs it."""

from s3ml.modelserver.runtimes.declared import declare
from s3ml.modelserver.runtimes.runtime import (
    Array,
    Arrays,
    ModelUnusableError,
    Runtime,
    RuntimeRefusedError,
    TensorSpec,
)
from s3ml.modelserver.runtimes.selection import (
    import_only_runtime,
    is_installed,
    missing_runtime,
    open_model,
)

__all__ = [
    "Array",
    "Arrays",
    "ModelUnusableError",
    "Runtime",
    "RuntimeRefusedError",
    "TensorSpec",
    "declare",
    "import_only_runtime",
    "is_installed",
    "missing_runtime",
    "open_model",
]
