"""The blocks of docs/client.md run, in order; so do the examples."""

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import s3ml.client
from s3ml.client import errors
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.signing import SigningKey
from tests.client.servers import WorldServer
from tests.client.tumours import furnish, make_tumours
from tests.client.world import World, inner

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- client: ([a-z]+) -->\n```python\n(.*?)```", GUIDE, re.DOTALL))
EXAMPLES = ("infer", "infer_async", "infer_many", "infer_pandas", "verify_service")


@pytest.fixture
def desk(live_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorldServer]:
    make_tumours(live_world)
    furnish(tmp_path)
    (tmp_path / "ada.key").write_bytes(SigningKey.generate().to_pem())
    monkeypatch.chdir(tmp_path)
    server = WorldServer(live_world)
    yield server
    server.close()


def run(desk: WorldServer, *names: str, namespace: dict[str, object] | None = None) -> dict[str, object]:
    known: dict[str, object] = {"__name__": "guide"} if namespace is None else namespace
    for name in names:
        code = BLOCKS[name].replace("http://127.0.0.1:8080", desk.url)
        exec(compile(code, f"docs/client.md: {name}", "exec"), known)  # noqa: S102 - our own
    return known


class TestGuide:
    """Every block of the guide does what the guide says."""

    def test_every_block_has_a_name(self) -> None:
        assert len(BLOCKS) == GUIDE.count("```python\n")

    def test_all_of_it_in_order(self, desk: WorldServer, capsys: pytest.CaptureFixture[str]) -> None:
        run(desk, *BLOCKS)
        shown = capsys.readouterr().out
        assert "case-17" in shown
        assert "probabilities[1]" in shown
        assert "[0, 2] 1 service 'tumours': x: expected FP32 [-1, 5], got [1, 3]" in shown
        assert "400 x: expected FP32 [-1, 5], got [12, 3]" in shown
        assert "True True" in shown
        assert "tumours 1 READY True" in shown

    def test_a_caller_without_the_role(self, desk: WorldServer, capsys: pytest.CaptureFixture[str]) -> None:
        known = run(desk, "infer")
        desk.world.answers.append(inner(403, "caller: lacks the role models"))
        run(desk, "repository", namespace=known)
        assert "lacks the role models" in capsys.readouterr().out

    def test_the_table_of_errors_is_complete(self) -> None:
        """Every error that a call can raise has its row; TransientError never leaves a call."""
        values = {name: getattr(s3ml.client, name) for name in s3ml.client.__all__}
        public = {
            name for name, value in values.items() if isinstance(value, type) and issubclass(value, S3MLError)
        }
        rows = set(re.findall(r"^\| `([A-Za-z]+Error)`", GUIDE, re.MULTILINE))
        assert public - {errors.TransientError.__name__} <= rows


class TestExamples:
    """Every example runs."""

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_it_runs(
        self,
        desk: WorldServer,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(sys, "argv", [name, desk.url])
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        assert capsys.readouterr().out.strip()
