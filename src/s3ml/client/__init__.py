"""The SDK: verifies a service from pinned trust, seals requests to it, opens its answers.

```python
from s3ml.client import Client

with Client("http://127.0.0.1:8080", trust="trust.toml") as s3ml:
    result = s3ml.infer("tumours", {"x": rows})
    print(result["label"])
```

`AsyncClient` is the same, awaited; the two share one core without I/O. The guide is docs/client.md.

Importing this is cheap: verifiers, the seal and an HTTP library come with the first client, and `AsyncClient`
and `Trust` when they are first named.
"""

import importlib
from typing import TYPE_CHECKING

from s3ml.client.bfloat16 import BFloat16
from s3ml.client.credentials import CallerKey, Credentials, Token
from s3ml.client.errors import (
    CredentialsRefusedError,
    DeadlineExceededError,
    InvalidInputError,
    ModelError,
    TransientError,
    UnknownServiceError,
    UntrustedServiceError,
)
from s3ml.client.results import InferFailure, InferResult
from s3ml.client.statistics import Statistics
from s3ml.client.sync import Client
from s3ml.wire.oip import IndexEntry, ModelState

if TYPE_CHECKING:
    from s3ml.client.asynchronous import AsyncClient
    from s3ml.client.trust import Trust

__all__ = [
    "AsyncClient",
    "BFloat16",
    "CallerKey",
    "Client",
    "Credentials",
    "CredentialsRefusedError",
    "DeadlineExceededError",
    "IndexEntry",
    "InferFailure",
    "InferResult",
    "InvalidInputError",
    "ModelError",
    "ModelState",
    "Statistics",
    "Token",
    "TransientError",
    "Trust",
    "UnknownServiceError",
    "UntrustedServiceError",
]


_WHEN_NAMED = {"AsyncClient": "s3ml.client.asynchronous", "Trust": "s3ml.client.trust"}


def __getattr__(name: str) -> object:
    module = _WHEN_NAMED.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)
