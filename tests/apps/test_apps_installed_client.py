"""The wheel, alone: what `pip install s3ml` brings verifies and infers, and nothing else is needed.

The wheel is built from this tree and installed into a fresh environment without an index; what it depends on
is linked in from the running one, and only that.
"""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.apps.conftest import DEADLINE_S, Desk

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
# All that the client alone brings along, their own dependencies included.
BROUGHT = {
    "aiohappyeyeballs",
    "aiohttp",
    "aiosignal",
    "attrs",
    "cffi",
    "cryptography",
    "dcap-qvl",
    "frozenlist",
    "idna",
    "msgspec",
    "multidict",
    "numpy",
    "propcache",
    "pycparser",
    "typing-extensions",
    "urllib3",
    "yarl",
}
CALLS = """
import asyncio, importlib, pkgutil, sys
import s3ml.client
for module in pkgutil.iter_modules(s3ml.client.__path__, "s3ml.client."):
    if not module.ispkg:
        importlib.import_module(module.name)

from s3ml.client import AsyncClient, Client
url, trust = sys.argv[1:]
with Client(url, trust=trust) as client:
    assert client.verify("tumours").is_simulated
    assert client.ready("tumours")
    width = client.metadata("tumours", "tumours")["inputs"][0]["shape"][1]
    result = client.infer("tumours", {"x": [[0.5] * width]})
    assert result["label"].shape == (1,), result

async def ask():
    async with AsyncClient(url, trust=trust) as client:
        inputs = ({"x": [[0.5] * width]} for _ in range(5))
        return [result.index async for result in client.infer_many("tumours", inputs, concurrency=2)]

print(asyncio.run(ask()), s3ml.__file__)
"""


def needed_by(requirements: list[str]) -> set[str]:
    """Return the names of what `requirements` bring along here, themselves included."""
    found: set[str] = set()
    left = list(requirements)
    while left:
        requirement = Requirement(left.pop())
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in found:
            found.add(name)
            left += metadata.requires(name) or []
    return found


def link(name: str, site: Path) -> None:
    """Make a distribution of the running environment importable from `site`."""
    for file in metadata.files(name) or []:
        top = file.parts[0]
        source = Path(str(metadata.distribution(name).locate_file(top)))
        if top != ".." and source.exists() and not (site / top).exists():
            (site / top).symlink_to(source)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--wheel-dir", str(folder))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, timeout=DEADLINE_S
    )
    (built,) = folder.glob("s3ml-*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and what it requires."""
    home = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=DEADLINE_S)
    python = home / "bin" / "python"
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "--python", str(python))
    subprocess.run([*pip, "install", *options, str(wheel)], check=True, timeout=DEADLINE_S)
    (site,) = home.glob("lib/python*/site-packages")
    (installed,) = metadata.distributions(name="s3ml", path=[str(site)])
    for name in needed_by(list(installed.requires or [])):
        link(name, site)
    return python


class TestWheel:
    """The wheel has the package, typed, and nothing beside it."""

    def test_what_is_in_it(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        assert "s3ml/py.typed" in names
        assert "s3ml/client/sync.py" in names
        assert {name.split("/")[0].partition("-")[0] for name in names} == {"s3ml"}

    def test_what_it_brings_along(self, alone: Path) -> None:
        (site,) = alone.parents[1].glob("lib/python*/site-packages")
        (installed,) = metadata.distributions(name="s3ml", path=[str(site)])
        assert needed_by(list(installed.requires or [])) <= BROUGHT


class TestClientAlone:
    """Without any extra, a program verifies and infers; the command line says what is missing."""

    def test_it_verifies_and_infers(self, alone: Path, desk: Desk) -> None:
        done = subprocess.run(
            [str(alone), "-I", "-W", "error", "-c", CALLS, desk.gateway, str(desk.folder / "trust.toml")],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, done.stderr
        indices, place = done.stdout.rsplit(" ", 1)
        assert indices == "[0, 1, 2, 3, 4]"
        assert Path(place.strip()).is_relative_to(alone.parents[1])

    @pytest.mark.parametrize("example", ["infer", "infer_async", "infer_many", "verify_service"])
    def test_the_examples_need_no_more(self, alone: Path, desk: Desk, example: str) -> None:
        done = desk.run(str(alone), str(ROOT / "examples" / f"{example}.py"), desk.gateway)
        assert done.status == 0, done.err

    def test_the_command_line_is_an_extra(self, alone: Path) -> None:
        command = [str(alone.parent / "s3ml"), "status"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "s3ml[cli]" in done.stderr
