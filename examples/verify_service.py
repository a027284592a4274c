"""Show what is verified before anything is sent: `python examples/verify_service.py [GATEWAY] [TRUST_FILE]`.

Exits with status 1 and one line when a check fails.
"""

import sys

from s3ml.client import Client
from s3ml.primitives.errors import S3MLError

gateway = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
trust = sys.argv[2] if len(sys.argv) > 2 else "trust.toml"  # noqa: PLR2004 - the second argument

try:
    with Client(gateway, trust=trust) as s3ml:
        verified = s3ml.verify("tumours")
except S3MLError as error:
    sys.exit(f"not verified: {error}")

if verified.is_simulated:
    print("SIMULATED: this deployment protects nothing")
for step in verified.steps:
    print(f"{step.number:2}. {step.title}: {step.detail}")
print(f"{verified.service} may be called until {verified.expires_at:%H:%M:%S} UTC")
