"""ONNX Runtime, kept small and kept to itself.

Telemetry is switched off before its import; custom operators are never registered; external data comes from
the bundle or not at all. One thread computes one request unless the bundle says otherwise, so that no pool of
threads stays resident.

Its arena takes no more than it is asked for and plans no memory ahead. Resident MB and processor ms per
request of ONNX Runtime 1.32, one thread, after batches of 1, 8 and 1 (SqueezeNet), of 1, 4 and 1
(DenseNet121), of 1 (ResNet50):

======================  ===============  ===============  ===============
arena                   SqueezeNet       DenseNet121      ResNet50
======================  ===============  ===============  ===============
as here                 131 MB, 5.3 ms   162 MB, 61 ms    168 MB, 60 ms
with memory patterns    137 MB, 5.3 ms   211 MB, 62 ms    175 MB, 59 ms
none                    165 to 182, 5.6  172 MB, 67 ms    190 MB, 59 ms
shrunk after each run   82 MB, 5.5 ms    180 MB, 65 ms    171 MB, 59 ms
======================  ===============  ===============  ===============

Shrinking costs 40 % in batches of 8 (SqueezeNet), for every run touches its pages anew.

BF16, which numpy lacks, goes in and comes out as its raw bits. ONNX Runtime converts and moves BF16 on a
processor but computes with hardly any of it: a model that does is refused when it is opened.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

from s3ml.bundle import ModelFiles, external_locations
from s3ml.modelserver.runtimes.runtime import (
    Array,
    Arrays,
    ModelUnusableError,
    RuntimeRefusedError,
    TensorSpec,
)
from s3ml.primitives.errors import ConfigurationError

PLATFORM = "onnx_onnxv1"
_FATAL = 4
_BFLOAT16 = 16  # TensorProto.DataType
_PROVIDER = ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxRuntime:
    """A model that ONNX Runtime has opened; satisfies `Runtime`.

    Args:
        session: With the processor as its only provider.

    Raises:
        ModelUnusableError: an input or output is no tensor, or text goes in beside BF16.
    """

    __slots__ = ("_datatypes", "_has_bf16", "_session", "inputs", "outputs")

    platform = PLATFORM

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self._datatypes = {spec.name: spec.datatype for spec in self.inputs}
        self._has_bf16 = any(spec.datatype == "BF16" for spec in (*self.inputs, *self.outputs))
        if self._has_bf16 and "BYTES" in self._datatypes.values():
            raise ModelUnusableError(
                "model: ONNX Runtime takes no text into a model that has BF16 inputs or outputs: "
                "cast BF16 to FP32 within the model"
            )

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[Array]:
        """Compute `outputs`, in their order, from inputs that match `inputs`; blocking.

        Raises:
            RuntimeRefusedError: these inputs cannot be evaluated.
            MemoryError: there was too little memory.
        """
        feeds = {
            name: _to_text(name, array) if self._datatypes[name] == "BYTES" else array
            for name, array in inputs.items()
        }
        try:
            results = self._run_values(feeds, outputs) if self._has_bf16 else self._run(feeds, outputs)
        except Exception as error:  # noqa: BLE001 - the runtime's own exceptions share no base class
            if _is_out_of_memory(error):
                raise MemoryError from None
            raise RuntimeRefusedError("inference: the model cannot be evaluated on these inputs") from None
        return [_to_bytes(array) if array.dtype == np.object_ else array for array in results]

    def _run(self, feeds: Arrays, outputs: Sequence[str]) -> list[Array]:
        return [np.asarray(result) for result in self._session.run(list(outputs), feeds)]

    def _run_values(self, feeds: Arrays, outputs: Sequence[str]) -> list[Array]:
        """Compute with the runtime's own values, in which BF16 has a type."""
        values = {name: _to_value(array, self._datatypes[name]) for name, array in feeds.items()}
        return [_from_value(value) for value in self._session.run_with_ort_values(list(outputs), values)]


def open_model(files: ModelFiles) -> OnnxRuntime:
    """Open a decrypted model.

    Raises:
        ModelUnusableError: ONNX Runtime does not accept it, it names external data that the bundle does not
            hold, or an input or output is no tensor.
    """
    try:
        missing = sorted(external_locations(files.model) - files.external.keys())
    except ConfigurationError as error:
        raise ModelUnusableError(f"model: {error}") from error
    if missing:
        raise ModelUnusableError(f"model: {len(missing)} of its external data files are not in the bundle")
    try:
        session = ort.InferenceSession(files.model, _options(files), providers=[_PROVIDER], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - the runtime's own exceptions share no base class
        if _is_out_of_memory(error):
            raise MemoryError from None
        # Its own words could name what is inside the model, and this line reaches the host's log.
        raise ModelUnusableError(_unopened(error), told=str(error)) from None
    # The runtime has a copy of its own by now, and would keep these bytes only to reopen them.
    session._model_bytes = None  # noqa: SLF001
    return OnnxRuntime(session)


def _unopened(error: Exception) -> str:
    """Say why a model does not open, without what is inside it."""
    kind = type(error).__name__
    if kind == "NotImplemented":
        return (
            "model: ONNX Runtime lacks one of its operators for the datatype that it has there, as for most "
            "operators on BF16: convert the model to FP32 or FP16"
        )
    return f"model: ONNX Runtime cannot open it ({kind}): try it where it was packed"


def _options(files: ModelFiles) -> Any:
    options = ort.SessionOptions()
    resources = files.config.resources
    options.intra_op_num_threads = 1 if resources is None else resources.threads
    options.inter_op_num_threads = 1
    # Threads of one run that spin while they wait for each other take twice the processor time (SqueezeNet on
    # two busy cores: 12 ms a row, 6 without; p50 46 ms, 20 without), and take it from the servers beside.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL
    options.enable_mem_pattern = False
    if external := files.external:
        options.add_external_initializers_from_files_in_memory(
            list(external), list(external.values()), [len(data) for data in external.values()]
        )
    return options


def _spec(node: Any) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise ModelUnusableError(
            f"model: expected inputs and outputs of numbers, booleans or text, got {node.type}: "
            "export it again without sequences or maps (skl2onnx: zipmap=False)",
            told=node.name,
        )
    sizes = tuple(node.shape or ())
    return TensorSpec(
        name=node.name,
        datatype=datatype,
        shape=tuple(size if isinstance(size, int) else -1 for size in sizes),
        symbols=tuple(size if isinstance(size, str) else None for size in sizes),
    )


def _to_text(name: str, array: Array) -> Array:
    """Return an array of `bytes` as the array of `str` that the runtime wants."""
    try:
        texts = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        raise RuntimeRefusedError(f"{name}: expected text in UTF-8") from None
    text_array = np.empty(len(texts), dtype=np.object_)
    text_array[:] = texts
    return text_array.reshape(array.shape)


def _to_bytes(array: Array) -> Array:
    flat = np.empty(array.size, dtype=np.object_)
    flat[:] = [str(element).encode() for element in array.ravel().tolist()]
    return flat.reshape(array.shape)


def _to_value(array: Array, datatype: str) -> Any:
    """Return a value of the runtime; one of BF16 shares the memory of `array`, and keeps it."""
    if datatype != "BF16":
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = np.require(array, requirements=["C", "A"])
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BFLOAT16)


def _from_value(value: Any) -> Array:
    if value.element_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    bits = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(bits, "<u2").reshape(value.shape())


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate memory" in text
