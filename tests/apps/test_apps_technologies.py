"""A whole deployment over each technology that the platform simulates, with real processes."""

import json
import sys

import pytest

from tests.apps.conftest import Desk, running_cluster

pytestmark = pytest.mark.integration


def follow(desk: Desk, *words: str) -> str:
    done = desk.s3ml(*words)
    assert done.status == 0, (words, done.err)
    return done.out


def govern(desk: Desk, technology: str) -> None:
    """Begin a deployment of one owner and have the service signed."""
    simulated = (
        "--allow-simulated",
        "--simulation-root",
        str(desk.state / "platform" / "root.pem"),
        "--simulates",
        technology,
    )
    follow(desk, "key", "generate", "ada")
    follow(desk, "key", "generate", "maker")
    owner = ("--threshold", "1", "--owner", "ada=ada.pub")
    follow(desk, "deployment", "propose", *owner, *simulated)
    follow(desk, "deployment", "sign", "proposal.json", "--key", "ada.key")
    follow(desk, "policy", "new", "model-server", *simulated, "-o", "models.toml")
    accept = ("--allow-simulated", "--accept", "tumours=models.toml")
    follow(desk, "deployment", "init", "proposal.json", *accept)
    follow(desk, "policy", "sign", "models.toml", "--key", "ada.key")
    assert desk.run(sys.executable, "examples/train_tumours.py").status == 0
    service = ("tumours", "--policy", "models")
    store = str(desk.state / "bundles")
    packed = ("--service", *service, "--store", store, "--key", "maker.key")
    follow(desk, "model", "pack", "tumours.onnx", *packed)
    signed = ("--model", "tumours-1.grant.json", "--model-owner", "maker.pub", "--key", "ada.key")
    follow(desk, "service", "sign", *service, *signed)


class TestTechnologies:
    """Key service and replicas attest, and a client verifies them, whatever is simulated."""

    @pytest.mark.parametrize("technology", ["tdx", "sev-snp"])
    def test_a_sealed_request_is_answered(self, technology: str) -> None:
        with running_cluster("tumours", "--replicas", "1", "--simulates", technology) as desk:
            govern(desk, technology)
            told = follow(desk, "infer", "tumours", "--input", "rows.csv", "--json")
            assert json.loads(told)["outputs"]
            verified = json.loads(follow(desk, "verify", "tumours", "--json"))
            assert verified["is_simulated"]

    def test_a_platform_out_of_date_gets_nothing(self) -> None:
        """The same way, and the vendor says that the platform lacks an update: no deployment begins."""
        with (
            running_cluster("tumours", "--replicas", "1", "--tcb", "out-of-date") as desk,
            pytest.raises(AssertionError, match="tcb_status: expected UpToDate, got OutOfDate"),
        ):
            govern(desk, "sgx")
