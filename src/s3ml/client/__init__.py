"""The SDK: verifies a service from pinned trust, seals requests to it, opens its answers.

```python
from s3ml.client import Client

with Client("http://127.0.0.1:8080", trust="trust.toml") as s3ml:
    result = s3ml.infer("tumours", {"x": rows})
    print(result["label"])
```

`AsyncClient` is the same, awaited; the two share one core without I/O. It is imported when it is first named,
so that blocking callers do not wait for asyncio. The guide is docs/client.md.
"""

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
from s3ml.client.trust import Trust
from s3ml.wire.oip import IndexEntry, ModelState

if TYPE_CHECKING:
    from s3ml.client.asynchronous import AsyncClient

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


def __getattr__(name: str) -> object:
    if name == "AsyncClient":
        from s3ml.client.asynchronous import AsyncClient  # noqa: PLC0415 - see above

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
