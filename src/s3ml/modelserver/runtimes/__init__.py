"""What computes a model: one module per runtime, imported only when a model needs it."""

from s3ml.modelserver.runtimes.runtime import (
    Array,
    Arrays,
    ModelUnusableError,
    Runtime,
    RuntimeRefusedError,
    TensorSpec,
)

__all__ = ["Array", "Arrays", "ModelUnusableError", "Runtime", "RuntimeRefusedError", "TensorSpec"]
