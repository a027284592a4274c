"""What `import s3ml.client` loads: little, and nothing of servers, command lines, event loops or tables."""

import subprocess
import sys

import pytest

import s3ml.client

# What a program that imports the SDK pays for, beside the standard library.
LIBRARIES = {"msgspec", "numpy", "s3ml", "typing_extensions"}
OWN = ("s3ml.client", "s3ml.primitives", "s3ml.wire.oip")
# What no program that calls a service ever needs.
UNWANTED = {
    "click",
    "envoy",
    "fsspec",
    "grpc",
    "h2",
    "httptools",
    "jinja2",
    "onnx",
    "onnxruntime",
    "opentelemetry",
    "pandas",
    "prometheus_client",
    "psycopg",
    "pyrage",
    "rich",
    "skl2onnx",
    "sklearn",
    "sqlite3",
    "starlette",
    "uvicorn",
    "uvloop",
}
UNWANTED_OWN = (
    "s3ml.apps",
    "s3ml.attestation.simulated",
    "s3ml.attestation.collateral",
    "s3ml.bundle",
    "s3ml.client.proxy",
    "s3ml.gateway",
    "s3ml.keyservice.server",
    "s3ml.keyservice.storage",
    "s3ml.modelserver",
)
SLOW = {"aiohttp", "asyncio", "concurrent", "cryptography", "email", "http", "ssl", "urllib3"}


def modules_after(code: str) -> set[str]:
    """Return what a fresh interpreter has loaded after `code`."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    words = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def libraries(modules: set[str]) -> set[str]:
    return {name for name in packages(modules) if name not in sys.stdlib_module_names and name[0] != "_"}


def is_under(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


class TestImport:
    """Importing the SDK loads numpy, msgspec and its own few modules; a test pins which."""

    loaded = staticmethod(lambda: modules_after("import s3ml.client"))

    def test_which_libraries(self) -> None:
        assert libraries(self.loaded()) <= LIBRARIES

    def test_which_of_our_own(self) -> None:
        own = {name for name in self.loaded() if name.startswith("s3ml.")} - {"s3ml.wire"}
        assert sorted(name for name in own if not is_under(name, OWN)) == []

    def test_nothing_slow(self) -> None:
        assert packages(self.loaded()) & SLOW == set()

    @pytest.mark.parametrize("name", s3ml.client.__all__)
    def test_each_public_name_is_there(self, name: str) -> None:
        assert getattr(s3ml.client, name) is not None

    def test_no_other_name_is(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = s3ml.client.nothing


class TestClients:
    """The first client loads what it verifies, seals and sends with: never what servers need."""

    BLOCKING = (
        "from s3ml.client import Client, Trust\n"
        "from s3ml.attestation.evidence import Tee\n"
        "from s3ml.attestation.policy import Alternative, AppraisalPolicy\n"
        "policy = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=('a1' * 32,)),))\n"
        "trust = Trust(deployment='d0' * 32, key_service_policy=policy, follow='owners')\n"
        "client = Client('http://127.0.0.1:9', trust)"
    )
    AWAITED = BLOCKING.replace("Client", "AsyncClient")

    @pytest.mark.parametrize("code", [BLOCKING, AWAITED], ids=["blocking", "awaited"])
    def test_nothing_of_servers(self, code: str) -> None:
        loaded = modules_after(code)
        assert packages(loaded) & UNWANTED == set()
        assert sorted(name for name in loaded if is_under(name, UNWANTED_OWN)) == []

    def test_a_blocking_client_knows_no_event_loop(self) -> None:
        assert packages(modules_after(self.BLOCKING)) & {"aiohttp", "asyncio"} == set()

    def test_an_asynchronous_client_has_its_library_before_its_first_call(self) -> None:
        assert "aiohttp" not in packages(modules_after("from s3ml.client import AsyncClient"))
        assert "aiohttp" in packages(modules_after(self.AWAITED))

    def test_verifiers_are_there_before_the_first_call(self) -> None:
        assert "dcap_qvl" in packages(modules_after(self.BLOCKING))
