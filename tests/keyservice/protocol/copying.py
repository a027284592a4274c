"""Copy a replica's process while it rests, so that its life goes on in two ways from there.

What cannot change is shared; what can is copied, with whatever refers to it: bound methods and closures too.
"""

import asyncio
import concurrent.futures
import dataclasses
import functools
import threading
import types
from collections import OrderedDict, deque
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec

from s3ml.attestation import VerdictCache
from s3ml.keyservice.generations import Generation
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.metrics import Metrics
from s3ml.keyservice.replaying import View
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.signing import SigningKey, VerifyKey
from tests.clocks import FakeClock
from tests.keyservice.protocol.node import Bench, Node, QuoteOnce
from tests.keyservice.protocol.witnesses import Panel

SHARED = (
    type(None), bool, int, float, str, bytes, frozenset, range, type, types.BuiltinFunctionType,
    types.ModuleType, types.MappingProxyType, datetime, timedelta, Enum, msgspec.Struct, S3MLError,
    concurrent.futures.Executor, VerdictCache, SigningKey, VerifyKey, FakeClock, Bench, Panel, QuoteOnce,
    Metrics,
)  # fmt: skip
_DEEP = (View, Keyring, Generation)


def copy_of(node: Node) -> Node:
    """Return a copy of a process in which no task is running."""
    assert not node.tasks
    found: Node = _copy(node, {})
    return found


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, SHARED):
        return value
    if (known := memo.get(id(value))) is not None:
        return known[1]
    made = _made(value, memo)
    memo[id(value)] = (value, made)
    return made


def _made(value: Any, memo: dict[int, Any]) -> Any:  # noqa: C901, PLR0911 - one line a kind
    match value:
        case tuple():
            return tuple(_copy(one, memo) for one in value)
        case bytearray():
            return bytearray(value)
        case list() | set() | deque():
            return type(value)(_copy(one, memo) for one in value)
        case dict() | OrderedDict():
            return type(value)((key, _copy(one, memo)) for key, one in value.items())
        case asyncio.Lock():
            assert not value.locked()
            return asyncio.Lock()
        case asyncio.Event():
            return asyncio.Event()
        case types.MethodType():
            return types.MethodType(value.__func__, _copy(value.__self__, memo))
        case types.FunctionType():
            return _function(value, memo)
        case functools.partial():
            return functools.partial(value.func, *(_copy(one, memo) for one in value.args), **value.keywords)
    if isinstance(value, type(threading.Lock())):
        return threading.Lock()
    if dataclasses.is_dataclass(value) and getattr(type(value), "__dataclass_params__").frozen:  # noqa: B009
        if not isinstance(value, _DEEP):
            return value
        fields = {one.name: _copy(getattr(value, one.name), memo) for one in dataclasses.fields(value)}
        return type(value)(**fields)
    return _instance(value, memo)


def _function(value: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    if value.__closure__ is None:
        return value
    cells = tuple(types.CellType(_copy(cell.cell_contents, memo)) for cell in value.__closure__)
    return types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)


def _instance(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if not kind.__module__.startswith(("s3ml.", "tests.")):
        raise TypeError(f"{kind}: neither shared nor copied")
    made = object.__new__(kind)
    memo[id(value)] = (value, made)
    names = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
    for name in (*names, *getattr(value, "__dict__", {})):
        if hasattr(value, name):
            object.__setattr__(made, name, _copy(getattr(value, name), memo))
    return made
