"""MLServer with the suite's models: `mlserver_server.py FOLDER HTTP_PORT GRPC_PORT METRICS_PORT`."""

import json
import os
import sys
from pathlib import Path

from conformance.oip.servers.computing import inputs, outputs, served


def main() -> None:
    """Write the model repository into FOLDER, and become MLServer."""
    folder = Path(sys.argv[1])
    http_port, grpc_port, metrics_port = map(int, sys.argv[2:5])
    settings = {
        "host": "127.0.0.1",
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for name, version in served():
        place = folder / f"{name}-{version}"
        place.mkdir()
        described = {
            "name": name,
            "implementation": "conformance.oip.servers.mlserver_runtime.Conformance",
            "parameters": {"version": version},
            **{
                kind: [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in specs]
                for kind, specs in (("inputs", inputs(name)), ("outputs", outputs(name)))
            },
        }
        (place / "model-settings.json").write_text(json.dumps(described))
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])  # noqa: S606


main()
