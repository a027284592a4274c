"""A production image leaves the simulated platform out, and works without it."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import s3ml

SETTINGS = {
    "S3ML_LISTEN": "127.0.0.1:1",
    "S3ML_KEY_SERVICE": "http://127.0.0.1:1",
    "S3ML_SERVICE": "x",
    "S3ML_BUNDLES": "file:///nowhere",
    "S3ML_REPLICA": "x-1",
    "S3ML_DATABASE": "/nowhere/log.sqlite",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as production ships it."""
    folder = tmp_path_factory.mktemp("production")
    package = Path(s3ml.__file__).parent
    shutil.copytree(package, folder / "s3ml", ignore=shutil.ignore_patterns("__pycache__", "simulated"))
    assert not (folder / "s3ml/attestation/simulated").exists()
    (distribution,) = (p for p in Path(sysconfig.get_path("purelib")).glob("s3ml-*.dist-info"))
    shutil.copytree(distribution, folder / distribution.name)
    return folder


def run(site: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    packages = sysconfig.get_path("platlib")
    return subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[1:1] = [{str(site)!r}, {packages!r}]\n{code}",
        ],
        env={**environment, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


class TestProductionImage:
    """What runs in a TEE needs nothing of the simulation."""

    @pytest.mark.parametrize(
        "module",
        [
            "s3ml.keyservice.server",
            "s3ml.keyservice.client",
            "s3ml.modelserver.app",
            "s3ml.modelserver.server",
            "s3ml.attestation",
            "s3ml.client",
            "s3ml.apps.processes.key_service",
            "s3ml.apps.processes.model_server",
        ],
    )
    def test_it_imports_without_the_simulation(self, site: Path, module: str) -> None:
        done = run(site, f"import {module}\nassert s3ml.__file__.startswith({str(site)!r}), s3ml.__file__")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("process", ["key_service", "model_server"])
    def test_a_simulated_platform_is_refused_in_one_line(self, site: Path, process: str) -> None:
        done = run(
            site,
            f"from s3ml.apps.processes import {process}\n{process}.main()",
            **SETTINGS,
            S3ML_SIMULATED_PLATFORM="/nowhere/quote.sock",
        )
        assert done.returncode not in {0, None}
        assert "simulated" in done.stderr.lower()
        assert "Traceback" not in done.stderr
