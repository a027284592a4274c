"""Score a table of pandas: `python examples/infer_pandas.py [GATEWAY] [TRUST_FILE]`.

Reads `rows.csv`, which `python examples/train_tumours.py` writes, and prints it with what the model says.
Needs `pip install pandas`.
"""

import sys

import pandas as pd

from s3ml.client import Client

gateway = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
trust = sys.argv[2] if len(sys.argv) > 2 else "trust.toml"  # noqa: PLR2004 - the second argument

cases = pd.read_csv("rows.csv")
with Client(gateway, trust=trust) as s3ml:
    scores = s3ml.infer("tumours", cases).to_pandas(index=cases.index)
print(cases.iloc[:, :3].join(scores).to_string())
