"""Tables of pandas in and out, without importing pandas for callers who have none.

A table of a model with one input is its rows; otherwise each input takes the column of its name. Values get
the datatype that the model declares, by the rules of lists: nothing is rounded, parsed or filled in silently.
"""

import sys
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Protocol, TypeGuard

import numpy as np

from s3ml.client.errors import InvalidInputError
from s3ml.primitives.errors import ConfigurationError

Array = np.ndarray[Any, np.dtype[Any]]


class Frame(Protocol):
    """A `pandas.DataFrame`."""

    @property
    def columns(self) -> Any:
        """The columns' names."""
        ...

    @property
    def index(self) -> Any:
        """The rows' labels."""
        ...

    @property
    def iloc(self) -> Any:
        """Rows and columns by place."""
        ...

    @property
    def dtypes(self) -> Any:
        """The columns' dtypes."""
        ...

    def to_numpy(self) -> Any:
        """Return all values in one array."""
        ...


class Column(Protocol):
    """A `pandas.Series`."""

    @property
    def name(self) -> Any:
        """The column's name."""
        ...

    @property
    def index(self) -> Any:
        """The rows' labels."""
        ...

    @property
    def iloc(self) -> Any:
        """Rows by place."""
        ...


def is_frame(value: object) -> TypeGuard[Frame]:
    """Tell whether `value` is a DataFrame; where nobody imported pandas, nothing is."""
    kind = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return kind is not None and isinstance(value, kind)


def is_column(value: object) -> TypeGuard[Column]:
    """Tell whether `value` is a Series; where nobody imported pandas, nothing is."""
    kind = getattr(sys.modules.get("pandas"), "Series", None)
    return kind is not None and isinstance(value, kind)


def is_plain(frame: Frame) -> bool:
    """Tell whether all columns have one and the same numeric dtype of numpy's own."""
    dtypes = set(frame.dtypes)
    return len(dtypes) == 1 and all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in dtypes)


def split_frame(frame: Frame, names: Iterable[str]) -> dict[str, Frame | Column]:
    """Return what each input of a model takes of `frame`: all of it where there is one input.

    Raises:
        InvalidInputError: the columns are not exactly the inputs of a model that has several.
    """
    expected = list(names)
    if len(expected) == 1:
        return {expected[0]: frame}
    columns = [str(name) for name in frame.columns]
    missing = [name for name in expected if name not in columns]
    unknown = [name for name in columns if name not in expected]
    if missing or unknown or len(set(columns)) != len(columns):
        raise InvalidInputError(
            f"data frame: expected one column for each input of the model: {', '.join(expected)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown or twice: "
            f"{', '.join(unknown or sorted({name for name in columns if columns.count(name) > 1})) or 'none'}"
        )
    return {name: frame.iloc[:, columns.index(name)] for name in expected}


def column_values(column: Column, *, is_float: bool) -> Any:
    """Return the values of a column as numpy has them, or as a list where numpy has objects only.

    Args:
        column: Of any dtype.
        is_float: Whether what is missing may become NaN.

    Raises:
        InvalidInputError: values are missing, and no number can say so.
    """
    series: Any = column
    missing = int(series.isna().sum())
    if missing and not is_float:
        raise InvalidInputError(
            f"column {str(series.name)[:80]!r}: {missing} values are missing: fill or drop them"
        )
    if isinstance(series.dtype, np.dtype) and series.dtype.kind != "O":
        return series.to_numpy()
    values = series.astype(object)
    return (values.where(series.notna(), np.nan) if missing else values).tolist()


def to_frame(outputs: Mapping[str, Array], *, index: Iterable[Any] | None) -> Any:
    """Return outputs as one DataFrame; see `InferResult.to_pandas`.

    Raises:
        InvalidInputError: the outputs do not have the same number of rows, or `index` has another.
        ConfigurationError: pandas is not installed.
    """
    try:
        import pandas  # noqa: ICN001, PLC0415 - for those alone who ask for it
    except ImportError as error:
        raise ConfigurationError("pandas is not installed here: pip install pandas") from error
    columns: dict[str, Any] = {}
    rows: dict[str, int] = {}
    for name, array in outputs.items():
        batch = array.reshape(1) if array.ndim == 0 else array
        rows[name] = len(batch)
        values = _texts(batch) if batch.dtype.kind == "O" else batch
        is_single = prod(batch.shape[1:]) == 1
        for place in np.ndindex(batch.shape[1:]):
            label = name if is_single else f"{name}[{','.join(map(str, place))}]"
            columns[label] = values[(slice(None), *place)]
    labels = None if index is None else pandas.Index(index)
    if labels is not None:
        rows["index"] = len(labels)
    if len(set(rows.values())) > 1:
        raise InvalidInputError(
            "to_pandas: expected the same number of rows everywhere, got "
            f"{', '.join(f'{name}: {count}' for name, count in rows.items())}: take the arrays one by one"
        )
    return pandas.DataFrame(columns, index=labels)


def _texts(array: Array) -> Array:
    """Return `bytes` as text where all of them are UTF-8."""
    texts = np.empty(array.size, dtype=np.object_)
    try:
        texts[:] = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        return array
    return texts.reshape(array.shape)
