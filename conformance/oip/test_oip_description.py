"""The server is what its description in OpenAPI says, and refuses the rest: schemathesis asks."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.oip.endpoint import JSON_FIELDS, Endpoint
from conformance.oip.names import LOADABLE, SCALE
from conformance.oip.programs import REPOSITORY, environment, executable

Need = Callable[[str], str]

pytestmark = [pytest.mark.integration]

DESCRIPTION = REPOSITORY / "docs" / "spec" / "open-inference-protocol.openapi.yaml"
CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
EXAMPLES_PER_OPERATION = 10
DEADLINE_S = 900

# Data that fits the description need not fit the model: what is positive is not always accepted.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)


@pytest.fixture
def loaded(endpoint: Endpoint, need: Need) -> Iterator[None]:
    """What was unloaded comes back."""
    need(LOADABLE)
    yield
    endpoint.ask("POST", f"/v2/repository/models/{LOADABLE}/load", b"", JSON_FIELDS)


class TestDescription:
    """Statuses, media types, documents; refusals of what the description does not have."""

    @pytest.mark.stricter
    @pytest.mark.usefixtures("loaded")
    def test_the_server_keeps_to_it(self, endpoint: Endpoint, need: Need, tmp_path: Path) -> None:
        need(SCALE)
        program = [executable("kserve", "schemathesis"), "--config-file", str(CONFIGURATION), "run"]
        chosen = ["--url", endpoint.url, "--phases", "examples,coverage,fuzzing", "--seed", "1", "--no-color"]
        amount = ["--max-examples", str(EXAMPLES_PER_OPERATION), "--checks", ",".join(CHECKS)]
        done = subprocess.run(
            [*program, str(DESCRIPTION), *chosen, *amount],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            cwd=tmp_path,
            env=environment(),
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "13/13" in done.stdout
