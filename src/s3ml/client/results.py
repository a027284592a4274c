"""What an inference gives back: arrays by output name, and what the verified service says about them.

No `repr` shows a value: results are what the seal is for.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from s3ml.client.frames import to_frame
from s3ml.client.inputs import Array
from s3ml.primitives.errors import S3MLError
from s3ml.wire.oip import Parameters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class InferResult(Mapping[str, Array]):
    """The outputs of one inference: a mapping of names to arrays, in the server's order.

    Args:
        model: The model that answered.
        version: Its version.
        id: The request's own, echoed.
        parameters: What the server says beside the outputs.
        replica: Which replica says that it answered: informative, every replica of the epoch could say so.
        outputs: Writable arrays. BYTES are arrays of `bytes`; BF16 is its raw 16 bits: see `BFloat16`.
        datatypes: The protocol's datatype of each output.
        index: Its place, from 0: among the inputs of `infer_many`, or among the responses of `stream`.
    """

    model: str
    version: str | None = None
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)
    replica: str | None = None
    outputs: Mapping[str, Array]
    datatypes: Mapping[str, str]
    index: int = 0

    def __getitem__(self, name: str) -> Array:
        try:
            return self.outputs[name]
        except KeyError:
            raise KeyError(f"output {name!r}: expected one of {', '.join(self.outputs)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __repr__(self) -> str:
        outputs = (f"{name}: {self.datatypes[name]} {list(array.shape)}" for name, array in self.items())
        return f"InferResult(model={self.model!r}, version={self.version!r}, outputs=<{', '.join(outputs)}>)"

    def to_pandas(self, *, index: Iterable[Any] | None = None) -> Any:
        """Return the outputs as one `pandas.DataFrame`, a row for each row of the batch.

        An output of one number a row becomes the column of its name; one of several becomes columns
        ``name[0]``, ``name[1]``, … (``name[0,1]`` where rows have more dimensions). BYTES become text where
        all of an output is UTF-8, and stay `bytes` otherwise.

        Args:
            index: The rows' labels, such as `frame.index` of the input; numbers from 0 when not given.

        Raises:
            InvalidInputError: the outputs do not have the same number of rows, or `index` has another.
            ConfigurationError: pandas is not installed.
        """
        return to_frame(self.outputs, index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferFailure:
    """An input of `infer_many` that got no result.

    Args:
        index: Its place among the inputs, from 0.
        error: Why: what `infer` raises.
    """

    index: int
    error: S3MLError
