"""A LiteRT model on the whole way: packed by its owner, opened in an enclave, called by a client."""

import json
from pathlib import Path

import pytest

from tests.apps.conftest import Desk, commands, running_cluster
from tests.modelserver.litert_models import linear

pytestmark = pytest.mark.integration


def test_it_is_served_beside_an_onnx_model() -> None:
    with running_cluster("tumours", "--replicas", "1") as desk:
        for name in ("owners begin", "owners sign the policy"):
            desk.follow_readme(name)
        train, generate, pack, *_ = commands("model owner")
        for words in (train, generate, pack):
            assert desk.run(*words).status == 0
        (desk.folder / "small.tflite").write_bytes(linear())
        small = [word.replace("tumours.onnx", "small.tflite") for word in pack]
        packed = desk.run(*small, "--name", "small", "--max-batch", "8")
        assert packed.status == 0, packed.err
        sign(desk)
        rows = desk.folder / "rows.json"
        rows.write_text(json.dumps(request(desk)))

        done = desk.until_served(
            "tumours", "--model", "small", "--input", rows.name, "--timeout", "60", "--json"
        )
        assert json.loads(done.out)["outputs"]
        assert desk.until_served("tumours", "--model", "tumours", "--input", "rows.csv").out


def sign(desk: Desk) -> None:
    """Let two owners sign a service of both models."""
    models = [word for name in ("tumours-1", "small-1") for word in ("--model", f"{name}.grant.json")]
    words = ("service", "sign", "tumours", "--policy", "model-server", *models)
    done = desk.s3ml(*words, "--model-owner", "model-owner.pub", "--key", "alice.key", "--key", "carol.key")
    assert done.status == 0, done.err


def request(desk: Desk) -> dict[str, object]:
    """Return a request of one row for what `linear` takes."""
    model: Path = desk.folder / "small.tflite"
    assert model.is_file()
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}]}
