"""The servers that are compared: each on one core, with one model and one thread, batches up to 8.

The peers run in virtual environments of their own (`scripts/bench-serving`), as their own documentation
starts them. S3ML is the whole process: a replica that the simulated platform launched, that attested and
was given its keys. SIMULATED: no SGX hardware.
"""

import json
import os
import shutil
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import processes
from benchmarks.serving.workloads import BINARY, JSON, Workload
from s3ml.apps.cluster.process import free_port

MAX_BATCH = 8
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = Path(os.environ.get("S3ML_BENCH_VENVS", REPOSITORY / ".bench-venvs"))
S3ML = "s3ml"
PACKAGES = {
    "mlserver": ("mlserver", "uvloop"),
    "kserve": ("kserve", "uvicorn", "uvloop"),
    "triton": ("nvidia-pytriton",),
}
_SCRIPTS = Path(__file__).parent / "peers"
_HOST = "127.0.0.1"
_DEADLINE_S = 120.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs and is ready.

    Attributes:
        name: As the tables have it.
        port: Where it listens.
        path: Of inferences.
        root: The process whose descendants it consists of.
        encodings: What it understands.
        key_configs: What to seal to, where it wants sealed requests.
    """

    name: str
    port: int
    path: str
    root: int
    encodings: tuple[str, ...] = (BINARY, JSON)
    key_configs: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How a peer is started.

    Attributes:
        environment: The folder of its virtual environment.
        command: Makes the command and what its environment has beside, out of workload, port and folder.
        encodings: What it understands.
    """

    environment: str
    command: Callable[[Workload, int, Path], tuple[list[str], dict[str, str]]]
    encodings: tuple[str, ...] = (BINARY, JSON)

    @property
    def is_installed(self) -> bool:
        """Whether its environment is there."""
        return (ENVIRONMENTS / self.environment / "bin" / "python").exists()


def _mlserver(workers: int) -> Callable[[Workload, int, Path], tuple[list[str], dict[str, str]]]:
    def command(workload: Workload, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        settings = {
            "debug": False,
            "host": _HOST,
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "parallel_workers": workers,
            "gzip_enabled": False,
        }
        model = {
            "name": workload.name,
            "implementation": "mlserver_model.OnnxModel",
            "max_batch_size": MAX_BATCH,
            "max_batch_time": 0.001,
            "parameters": {"uri": str(workload.path), "extra": {"output": workload.output}},
        }
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
        return [_binary("mlserver", "mlserver"), "start", str(folder)], {"PYTHONPATH": str(_SCRIPTS)}

    return command


def _kserve(workload: Workload, port: int, _folder: Path) -> tuple[list[str], dict[str, str]]:
    command = [_binary("kserve", "python"), str(_SCRIPTS / "kserve_server.py"), "--name", workload.name]
    command += ["--path", str(workload.path), "--output", workload.output, "--port", str(port)]
    return command, {}


def _pytriton(workload: Workload, port: int, _folder: Path) -> tuple[list[str], dict[str, str]]:
    command = [_binary("triton", "python"), str(_SCRIPTS / "pytriton_server.py"), "--name", workload.name]
    command += ["--path", str(workload.path), "--port", str(port), "--batch", str(MAX_BATCH)]
    command += ["--input", workload.input, "--shape", ",".join(map(str, workload.shape))]
    command += ["--output", workload.output, "--output-shape", ",".join(map(str, workload.output_shape))]
    return command, {"LD_LIBRARY_PATH": _interpreter_library()}


def _triton(workload: Workload, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Run the `tritonserver` that PyTriton brings with its Python backend, without PyTriton around it."""
    packages = next((ENVIRONMENTS / "triton" / "lib").glob("python3.*")) / "site-packages"
    version = packages.parent.name.removeprefix("python")
    distribution = packages / "pytriton" / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(distribution / "backends", backends)
    stub = distribution / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    model = folder / "models" / workload.name
    (model / "1").mkdir(parents=True)
    shutil.copy(_SCRIPTS / "triton_model.py", model / "1" / "model.py")
    (model / "config.pbtxt").write_text(_triton_config(workload), encoding="utf-8")
    command = [str(distribution / "bin" / "tritonserver"), f"--model-repository={folder / 'models'}"]
    command += [f"--backend-directory={backends}", f"--http-address={_HOST}", f"--http-port={port}"]
    command += ["--allow-grpc=false", f"--metrics-port={free_port()}", "--log-info=false"]
    environment = {
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{_interpreter_library()}",
        "PYTHONPATH": str(packages),
        "PATH": f"{ENVIRONMENTS / 'triton' / 'bin'}:{os.environ['PATH']}",
    }
    return command, environment


def _triton_config(workload: Workload) -> str:
    def tensor(name: str, sizes: tuple[int, ...]) -> str:
        return f'[{{ name: "{name}" data_type: TYPE_FP32 dims: {list(sizes)} }}]'

    parameters = {"path": str(workload.path), "input": workload.input, "output": workload.output}
    lines = [
        f'name: "{workload.name}"',
        'backend: "python"',
        f"max_batch_size: {MAX_BATCH}",
        "dynamic_batching {}",
        "instance_group [{ count: 1 kind: KIND_CPU }]",
        f"input {tensor(workload.input, workload.shape)}",
        f"output {tensor(workload.output, workload.output_shape)}",
    ]
    for name, value in parameters.items():
        lines.append(f'parameters {{ key: "{name}" value: {{ string_value: "{value}" }} }}')
    return "\n".join(lines) + "\n"


PEERS: Mapping[str, Peer] = {
    "mlserver": Peer(environment="mlserver", command=_mlserver(0), encodings=(JSON,)),
    "mlserver-1-worker": Peer(environment="mlserver", command=_mlserver(1), encodings=(JSON,)),
    "kserve": Peer(environment="kserve", command=_kserve),
    "triton-python": Peer(environment="triton", command=_triton),
    "pytriton": Peer(environment="triton", command=_pytriton),
}


def versions() -> dict[str, dict[str, str]]:
    """Return the versions of what matters in each peer's environment."""
    program = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    found = {}
    for name, packages in PACKAGES.items():
        if (ENVIRONMENTS / name / "bin" / "python").exists():
            command = [_binary(name, "python"), "-c", program, *packages, "onnxruntime", "numpy"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] = json.loads(done.stdout)
    return found


@contextmanager
def running(names: list[str], workload: Workload, folder: Path, *, core: int) -> Iterator[dict[str, Server]]:
    """Run peers on `core`, each with the model of `workload`; give them once they are ready."""
    with ExitStack() as stack:
        servers = {}
        for name in names:
            own = folder / name
            own.mkdir()
            servers[name] = stack.enter_context(_running(name, workload, own, core=core))
        yield servers


@contextmanager
def _running(name: str, workload: Workload, folder: Path, *, core: int) -> Iterator[Server]:
    peer, port = PEERS[name], free_port()
    command, environment = peer.command(workload, port, folder)
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=folder,
            env=_environment() | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(f"http://{_HOST}:{port}/v2/models/{workload.name}/ready", process, log)
        path = f"/v2/models/{workload.name}/infer"
        yield Server(name=name, port=port, path=path, root=process.pid, encodings=peer.encodings)
    finally:
        _stop(process)


def _environment() -> dict[str, str]:
    """Return this process's environment without this environment's Python."""
    ignored = ("PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ignored}


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - loopback
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            told = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"serving: {url}: not ready; its log ends with:\n{told}")
        time.sleep(_POLL_S)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server and whatever it started."""
    pids = processes.tree(process.pid)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in pids[1:]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def _interpreter_library() -> str:
    """Return the folder of this interpreter's library: Triton's must be that of its standard library."""
    return str(sysconfig.get_config_var("LIBDIR"))


def _binary(environment: str, name: str) -> str:
    return str(ENVIRONMENTS / environment / "bin" / name)
