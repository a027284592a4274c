"""What computes a model: one module per runtime, imported only when a model needs it."""

from s3ml.modelserver.runtimes.runtime import ModelUnusableError, Runtime, RuntimeRefusedError, TensorSpec

__all__ = ["ModelUnusableError", "Runtime", "RuntimeRefusedError", "TensorSpec"]
