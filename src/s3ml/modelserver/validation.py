"""Whether the inputs and outputs of a request are those of a model: each mistake gets its own clear line."""

from collections.abc import Sequence

from s3ml.modelserver.runtimes import TensorSpec
from s3ml.wire.oip import InferRequest, OIPError, Tensor


def check_inputs(inputs: Sequence[Tensor], specs: Sequence[TensorSpec]) -> None:
    """Accept exactly the inputs of a model, in any order.

    Raises:
        OIPError: status 400; an input is unknown, missing, or of another datatype or shape.
    """
    by_name = {spec.name: spec for spec in specs}
    given = [tensor.name for tensor in inputs]
    for name in given:
        if name not in by_name:
            raise OIPError(f"inputs: expected {_names(specs)}, got {name!r}")
    if missing := by_name.keys() - set(given):
        raise OIPError(f"inputs: expected {_names(specs)}, got none named {min(missing)!r}")
    sizes: dict[str, tuple[int, str]] = {}
    for tensor in inputs:
        _check_tensor(tensor, by_name[tensor.name], sizes)


def select_outputs(request: InferRequest, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the outputs that a request asks for, in its order; all of them when it names none.

    Raises:
        OIPError: status 400; an output is unknown.
    """
    by_name = {spec.name: spec for spec in specs}
    for output in request.outputs:
        if output.name not in by_name:
            raise OIPError(f"outputs: expected some of {_names(specs)}, got {output.name!r}")
    return tuple(by_name[output.name] for output in request.outputs) or tuple(specs)


def _check_tensor(tensor: Tensor, spec: TensorSpec, sizes: dict[str, tuple[int, str]]) -> None:
    """Compare one tensor; `sizes` holds what each symbol stands for in this request."""
    if tensor.datatype != spec.datatype:
        raise OIPError(f"{spec.name}: expected datatype {spec.datatype}, got {tensor.datatype}")
    if not spec.shape:  # the model leaves the rank open
        return
    wrong = OIPError(f"{spec.name}: expected shape {list(spec.shape)}, got {list(tensor.shape)}")
    if len(tensor.shape) != len(spec.shape):
        raise wrong
    for got, expected, symbol in zip(tensor.shape, spec.shape, spec.symbols, strict=True):
        if expected not in (-1, got):
            raise wrong
        if symbol is None:
            continue
        size, owner = sizes.setdefault(symbol, (got, spec.name))
        if size != got:
            raise OIPError(
                f"{spec.name}: expected dimension {symbol!r} to be {size} as in {owner}, got {got}"
            )


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)
