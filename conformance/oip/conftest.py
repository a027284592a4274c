"""Which endpoint the suite asks: the one that was named, or a local cluster behind `s3ml proxy`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.oip.endpoint import Endpoint, model_path
from conformance.oip.names import MODELS
from conformance.oip.programs import Program, program

_OUTCOMES: dict[str, tuple[str, str]] = {}
_REASON_CHARS = 300
_TIMEOUT_S = 1200


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how each test ended, and why."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = "" if crash is None else crash.message[:_REASON_CHARS]
        _OUTCOMES[report.nodeid] = (report.outcome, reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test the time that its cluster takes, and leave out our own rules where not asked for."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
    if config.getoption("--protocol-only", default=False):
        left_out = [item for item in items if item.get_closest_marker("stricter")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("stricter")]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the outcomes where they are asked for."""
    path = session.config.getoption("--facts", default=None)
    if path is not None:
        Path(path).write_text(json.dumps(_OUTCOMES, indent=1, sort_keys=True))


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The endpoint under test."""
    url = request.config.getoption("--endpoint", default=None)
    if url is not None:
        yield Endpoint(
            url=url,
            grpc=request.config.getoption("--grpc-endpoint"),
            is_lenient=request.config.getoption("--protocol-only"),
            models=tuple(request.config.getoption("--model")) or MODELS,
        )
        return
    from conformance.oip.local import local_endpoint  # noqa: PLC0415 - only where no endpoint is named

    with local_endpoint(tmp_path_factory.mktemp("oip")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def need(endpoint: Endpoint) -> Callable[[str], str]:
    """Return what gives a model's name, and skips the test where the endpoint does not serve it."""
    known: dict[str, int] = {}

    def get(model: str) -> str:
        if model not in known:
            known[model] = endpoint.get(model_path(model)).status
        if known[model] != 200:
            pytest.skip(f"the endpoint does not serve {model}: see conformance/oip/README.md")
        return model

    return get


@pytest.fixture(scope="session")
def run_program(endpoint: Endpoint) -> Iterator[Callable[[str], Program]]:
    """Return what gives a running client program; each starts once."""
    running: dict[str, Program] = {}

    def get(name: str) -> Program:
        if name not in running:
            running[name] = program(name, endpoint)
        return running[name]

    yield get
    for started in running.values():
        started.close()
