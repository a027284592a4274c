"""LiteRT, the smallest runtime: 61 MB resident with SqueezeNet where ONNX Runtime takes 88.

An interpreter computes one request at a time, so each thread that computes has one of its own meanwhile;
all share the model's bytes (SqueezeNet: 11 MB for each more). Inputs of another size than the last ones
resize it. Nothing of one request is left for the next: variables are reset, and models that assign to
resources are refused. Nothing comes from disk: no delegate, no custom operator, no other file. XNNPACK, which
is compiled in, stays on: SqueezeNet takes 7 ms with it and 40 without, for 3 MB more. One thread computes one
request unless the bundle says otherwise.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import ml_dtypes  # LiteRT finds BF16 only where this is imported
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from s3ml.bundle import ModelFiles, check_litert
from s3ml.modelserver.runtimes.runtime import (
    Array,
    Arrays,
    ModelUnusableError,
    RuntimeRefusedError,
    TensorSpec,
)
from s3ml.primitives.errors import ConfigurationError

PLATFORM = "litert_tflite"
_SIGNATURE = "serving_default"

_BF16 = ml_dtypes.bfloat16

_DATATYPES: Mapping[type, str] = {
    np.bool_: "BOOL",
    np.uint8: "UINT8",
    np.uint16: "UINT16",
    np.uint32: "UINT32",
    np.uint64: "UINT64",
    np.int8: "INT8",
    np.int16: "INT16",
    np.int32: "INT32",
    np.int64: "INT64",
    np.float16: "FP16",
    _BF16: "BF16",
    np.float32: "FP32",
    np.float64: "FP64",
    np.bytes_: "BYTES",
}

_quiet_lock = Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """The inputs and outputs of a model: their names, and what LiteRT says of each, in the model's order."""

    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]


class LiteRTRuntime:
    """A model that LiteRT has opened; satisfies `Runtime`.

    Args:
        create: Makes another interpreter of the same model.
        first: One that is made already.
    """

    __slots__ = ("_border", "_create", "_idle", "_lock", "inputs", "outputs")

    platform = PLATFORM

    def __init__(self, create: Callable[[], Interpreter], first: Interpreter) -> None:
        self._create = create
        self._border = _border(first)
        self._idle = [_Instance(first, self._border)]
        self._lock = Lock()
        self.inputs = _specs(self._border.inputs)
        self.outputs = _specs(self._border.outputs)

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[Array]:
        """Compute `outputs`, in their order, from inputs that match `inputs`; blocking.

        Raises:
            RuntimeRefusedError: these inputs cannot be evaluated.
            MemoryError: there was too little memory.
        """
        for name, array in inputs.items():
            if not array.size:
                raise RuntimeRefusedError(f"{name}: expected elements, got shape {list(array.shape)}")
        with self._lock:
            instance = self._idle.pop() if self._idle else None
        if instance is None:
            instance = _Instance(self._create(), self._border)
        try:
            results = instance.run(inputs, outputs)
        except (RuntimeError, ValueError):
            # The state of an interpreter that failed is unknown: this one is not used again.
            raise RuntimeRefusedError("inference: the model cannot be evaluated on these inputs") from None
        with self._lock:
            self._idle.append(instance)
        return results


class _Instance:
    """An interpreter, and the sizes that its inputs have at the moment."""

    __slots__ = ("_border", "_interpreter", "_shapes")

    def __init__(self, interpreter: Interpreter, border: Border) -> None:
        self._interpreter, self._border = interpreter, border
        self._shapes = {name: _sizes(detail["shape"]) for name, detail in border.inputs.items()}

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[Array]:
        """Compute with an interpreter that nobody else uses meanwhile; LiteRT's own exceptions pass."""
        border, interpreter = self._border, self._interpreter
        shapes = {name: array.shape for name, array in inputs.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                interpreter.resize_tensor_input(border.inputs[name]["index"], shape, strict=True)
            interpreter.allocate_tensors()
            self._shapes = shapes
        for name, array in inputs.items():
            detail = border.inputs[name]
            whole = np.require(array, requirements=["C", "A"])
            interpreter.set_tensor(detail["index"], whole.view(_BF16) if detail["dtype"] is _BF16 else whole)
        interpreter.reset_all_variables()
        interpreter.invoke()
        results = [interpreter.get_tensor(border.outputs[name]["index"]) for name in outputs]
        return [array.view(np.uint16) if array.dtype == _BF16 else array for array in results]


def open_model(files: ModelFiles) -> LiteRTRuntime:
    """Open a decrypted model.

    Its tensors go by the names of its signature, where it has one (`serving_default`, where it has several),
    and by their own otherwise.

    Raises:
        ModelUnusableError: LiteRT does not accept it, it needs other files or operators, it keeps state, none
            of its signatures is the default, or LiteRT or the protocol lacks the datatype of an input or
            output.
        MemoryError: there was too little memory.
    """
    model = files.model
    threads = 1 if files.config.resources is None else files.config.resources.threads
    try:
        check_litert(model)
    except ConfigurationError as error:
        raise ModelUnusableError(f"model: {error}") from error

    def create() -> Interpreter:
        with _quiet():
            interpreter = Interpreter(model_content=model, num_threads=threads)
            _allocate(interpreter)
        return interpreter

    try:
        return LiteRTRuntime(create, create())
    except (RuntimeError, ValueError) as error:
        # Its own words could name what is inside the model, and this line reaches the host's log.
        raise ModelUnusableError(
            f"model: LiteRT cannot open it ({type(error).__name__}): try it where it was packed",
            told=str(error),
        ) from None


def _allocate(interpreter: Interpreter) -> None:
    """Prepare for the smallest inputs; where several sizes are open, those need not be possible ones."""
    try:
        interpreter.allocate_tensors()
    except RuntimeError:
        if not any(-1 in detail["shape_signature"][1:] for detail in interpreter.get_input_details()):
            raise


def _border(interpreter: Interpreter) -> Border:
    """Find the names of a model's inputs and outputs."""
    signatures = interpreter.get_signature_list()
    if not signatures:
        return Border(
            inputs={detail["name"]: detail for detail in interpreter.get_input_details()},
            outputs={detail["name"]: detail for detail in interpreter.get_output_details()},
        )
    if len(signatures) > 1 and _SIGNATURE not in signatures:
        raise ModelUnusableError(
            f"model: expected one signature, or one named {_SIGNATURE}, got {len(signatures)} others: "
            "save it with the one that is to be served"
        )
    key = _SIGNATURE if _SIGNATURE in signatures else next(iter(signatures))
    runner = interpreter.get_signature_runner(key)
    border = Border(inputs=runner.get_input_details(), outputs=runner.get_output_details())
    main = {detail["index"] for detail in interpreter.get_input_details()}
    if {detail["index"] for detail in border.inputs.values()} != main:
        raise ModelUnusableError("model: expected a signature of its whole main graph", told=key)
    return border


def _specs(details: Mapping[str, Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    for name, detail in details.items():
        datatype = _DATATYPES.get(detail["dtype"])
        if datatype is None:
            got = detail["dtype"].__name__
            raise ModelUnusableError(
                f"model: expected inputs and outputs of numbers, booleans or text, got {got}", told=name
            )
        # A scalar, and a tensor without variable sizes, may have no signature of their own.
        signature = detail["shape_signature"]
        shape = _sizes(signature if len(signature) else detail["shape"])
        specs.append(TensorSpec(name=name, datatype=datatype, shape=shape, symbols=(None,) * len(shape)))
    return tuple(specs)


def _sizes(shape: Array) -> tuple[int, ...]:
    return tuple(shape.tolist())


@contextmanager
def _quiet() -> Iterator[None]:
    """Send elsewhere what LiteRT prints on C's standard error: it would announce XNNPACK amid our log."""
    libc = ctypes.CDLL(None)
    libc.fmemopen.restype = ctypes.c_void_p
    stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    with _quiet_lock:
        kept, elsewhere = stderr.value, libc.fmemopen(None, ctypes.c_size_t(4096), b"w")
        stderr.value = elsewhere or kept
        try:
            yield
        finally:
            stderr.value = kept
            if elsewhere:
                libc.fclose(ctypes.c_void_p(elsewhere))
