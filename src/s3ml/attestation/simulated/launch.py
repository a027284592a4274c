"""The measured start of an enclave process: what its image is for, and the script that enters it.

`launch.py` lies in the image, so that it is measured like everything else. It waits for the platform to
know the process, forgets what the host put into the environment and the module path, and enters the role.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["key-service", "model-server"]

SETTING_PATTERN = r"\AS3ML_[A-Z_]{1,58}\Z"

_SCRIPT = '''\
"""Enters the {role} of this image. SIMULATED: no hardware protects this process."""

import os
import re
import sys

IMAGE = os.path.dirname(os.path.abspath(__file__))
SETTING = re.compile(r"{setting_pattern}", re.ASCII)

os.read(0, 1)  # the end of this pipe says that the platform knows this process
for name in [name for name in os.environ if not SETTING.match(name)]:
    del os.environ[name]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.path[:] = [entry for entry in sys.path if entry.startswith(IMAGE + os.sep) and os.path.isdir(entry)]
sys.path.append(os.path.join(IMAGE, "site"))

from s3ml.apps.processes.{module} import main

sys.exit(main())
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePlan:
    """What an image of one role holds.

    Args:
        module: The module under ``s3ml.apps.processes`` whose ``main`` is entered.
        distributions: The roots of the closure of installed distributions.
        optional: Further roots, each where it is installed.
    """

    module: str
    distributions: tuple[str, ...]
    optional: tuple[str, ...] = ()


# What a model server that traces needs besides: only where whoever makes the image asks for it.
TRACING = ("opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk")

ROLES: dict[Role, RolePlan] = {
    "key-service": RolePlan(
        module="key_service",
        distributions=(
            "cryptography",
            "dcap-qvl",
            "httptools",
            "msgspec",
            "prometheus-client",
            "psycopg",
            "psycopg-binary",
            "psycopg-pool",
            "pyrage",
            "starlette",
            "urllib3",
            "uvicorn",
            "uvloop",
        ),
    ),
    "model-server": RolePlan(
        module="model_server",
        distributions=(
            "cryptography",
            "dcap-qvl",
            "fsspec",
            "httptools",
            "msgspec",
            "numpy",
            "onnxruntime",
            "pyjwt",
            "pyrage",
            "urllib3",
            "uvicorn",
            "uvloop",
        ),
        # A second runtime, for models in its own format: s3ml[litert].
        optional=("ai-edge-litert", "ml-dtypes"),
    ),
}


def launch_script(role: Role) -> bytes:
    """Return the bytes of the image's ``launch.py`` for `role`."""
    script = _SCRIPT.format(role=role, module=ROLES[role].module, setting_pattern=SETTING_PATTERN)
    return script.encode("ascii")
