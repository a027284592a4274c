import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from s3ml.apps.cli import image
from s3ml.apps.images import recipe
from s3ml.apps.images.lint import RULES
from s3ml.attestation.simulated.launch import TRACING, Role
from s3ml.primitives.errors import ConfigurationError
from tests.images.images_world import TEMPLATE, honest


def run(*arguments: str) -> Result:
    return CliRunner().invoke(image.command, list(arguments), catch_exceptions=True)


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(
        role: Role, *, runtime: Path, package: Path | None, additions: tuple[str, ...]
    ) -> dict[str, Path | bytes]:
        return {"bin/python3": b"python", "launch.py": f"{role} {runtime} {package}".encode()}

    monkeypatch.setattr(recipe, "enclave_files", few)


@pytest.mark.usefixtures("few_files")
class TestRender:
    """It writes an image, and says what it wrote."""

    def test_what_is_rendered_is_linted(self, tmp_path: Path) -> None:
        output = tmp_path / "image"
        done = run("render", "model-server", "-o", str(output), "--template", str(TEMPLATE))
        assert done.exit_code == 0, done.output
        assert "2 files" in done.output
        assert run("lint", str(output / "enclave.manifest")).exit_code == 0

    def test_the_role_decides_what_is_not_given(self, tmp_path: Path) -> None:
        done = run(
            "render", "model-server", "-o", str(tmp_path / "image"), "--template", str(TEMPLATE), "--json"
        )
        written = json.loads(done.output)
        assert (written["enclave_size"], written["threads"], written["svn"]) == ("2G", 64, 1)
        assert written["file_count"] == 2
        assert len(written["sha256"]) == 64

    def test_what_is_given_counts(self, tmp_path: Path) -> None:
        shape = ("--enclave-size", "4G", "--threads", "8", "--svn", "5", "--edmm")
        template = ("--template", str(TEMPLATE))
        run("render", "key-service", "-o", str(tmp_path / "image"), *template, *shape)
        text = (tmp_path / "image/enclave.manifest").read_text()
        for line in ('enclave_size = "4G"', "max_threads = 8", "isvsvn = 5", "edmm_enable = true"):
            assert f"\n{line}\n" in text

    def test_traces_are_for_model_servers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        added: list[tuple[str, ...]] = []

        def few(_role: Role, *, additions: tuple[str, ...], **_more: object) -> dict[str, Path | bytes]:
            added.append(additions)
            return {"bin/python3": b"python", "launch.py": b""}

        monkeypatch.setattr(recipe, "enclave_files", few)
        template = ("--template", str(TEMPLATE))
        assert run("render", "model-server", "-o", str(tmp_path / "a"), *template).exit_code == 0
        assert run("render", "model-server", "-o", str(tmp_path / "b"), *template, "--traces").exit_code == 0
        assert added == [(), TRACING]
        done = run("render", "key-service", "-o", str(tmp_path / "c"), *template, "--traces")
        assert isinstance(done.exception, ConfigurationError)
        assert not (tmp_path / "c").exists()

    def test_no_threads_are_not_the_default(self, tmp_path: Path) -> None:
        done = run("render", "key-service", "-o", str(tmp_path / "image"), "--threads", "0")
        assert isinstance(done.exception, ConfigurationError)
        assert not (tmp_path / "image").exists()


class TestLint:
    """It names every broken rule, and ends with an error of the input."""

    def test_a_manifest_that_keeps_all_ends_well(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_text(honest())
        done = run("lint", str(tmp_path / "m"))
        assert done.exit_code == 0
        assert f"keeps all {len(RULES)} rules" in done.output

    def test_a_broken_rule_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_text(honest().replace("debug = false", "debug = true"))
        done = run("lint", str(tmp_path / "m"))
        assert "production: sgx.debug: expected False, got True" in done.output
        assert isinstance(done.exception, ConfigurationError)
        assert f"breaks 1 of {len(RULES)} rules: production" in str(done.exception)

    @pytest.mark.parametrize(("debug", "rules"), [("false", []), ("true", ["production"])])
    def test_json_is_one_object(self, tmp_path: Path, debug: str, rules: list[str]) -> None:
        (tmp_path / "m").write_text(honest().replace("debug = false", f"debug = {debug}"))
        done = run("lint", str(tmp_path / "m"), "--json")
        assert [finding["rule"] for finding in json.loads(done.output)["findings"]] == rules

    def test_a_missing_manifest_is_refused(self, tmp_path: Path) -> None:
        assert isinstance(run("lint", str(tmp_path / "none")).exception, ConfigurationError)
