"""Call a service that this machine verified: `python examples/infer.py [GATEWAY] [TRUST_FILE]`.

Needs a running cluster (`s3ml up`) with the service `tumours`, and the owners' `trust.toml`.
"""

import sys

import numpy as np

from s3ml.client import Client

gateway = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
trust = sys.argv[2] if len(sys.argv) > 2 else "trust.toml"  # noqa: PLR2004 - the second argument

with Client(gateway, trust=trust) as s3ml:
    model = s3ml.verify("tumours").models[0].model
    (declared,) = s3ml.metadata("tumours", model)["inputs"]
    rows = np.zeros((3, declared["shape"][1]), dtype=np.float32)
    for name, array in s3ml.infer("tumours", {declared["name"]: rows}).items():
        print(f"{name}: {array.dtype} {array.shape}: {array.tolist()}")
    print(s3ml.statistics)
