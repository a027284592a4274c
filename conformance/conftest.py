"""The options of the suites here that run against an endpoint; see conformance/oip/README.md."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `conformance/oip` asks for; without an endpoint it starts a cluster of its own."""
    group = parser.getgroup("oip", "Open Inference Protocol")
    group.addoption(
        "--endpoint", metavar="URL", help="base URL of a server, as http://127.0.0.1:8000; else a local one"
    )
    group.addoption("--grpc-endpoint", metavar="HOST:PORT", help="the same server's gRPC, where it has it")
    group.addoption(
        "--model", action="append", default=[], metavar="NAME", help="a model that is there; repeat for more"
    )
    group.addoption(
        "--protocol-only",
        action="store_true",
        help="leave out S3ML's own rules, and take any 4xx where it says 400",
    )
    group.addoption("--facts", metavar="FILE", help="write the outcome of each test as JSON")
