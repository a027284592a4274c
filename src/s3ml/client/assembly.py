"""A core on this machine's clock and randomness.

It loads the verifiers and the seal. An `import s3ml.client` does not pay for them, and no call pays for them
out of its own time, because clients are assembled before they are used.
"""

import secrets
from pathlib import Path

from s3ml.client.core import Core
from s3ml.client.credentials import Credentials
from s3ml.client.log_state import LogState
from s3ml.client.trust import Trust
from s3ml.primitives.clock import SystemClock


def assemble(
    trust: Trust | Path | str,
    *,
    credentials: Credentials | None,
    timeout_s: float,
    log_state: Path | None,
) -> Core:
    """Return the core of a client; its arguments are those of `Client`.

    Raises:
        ConfigurationError: a malformed file, or a timeout that is not positive.
    """
    pinned = trust if isinstance(trust, Trust) else Trust.read(Path(trust))
    return Core(
        trust=pinned,
        log_state=LogState(pinned.deployment, log_state),
        clock=SystemClock(),
        random_bytes=secrets.token_bytes,
        jitter=secrets.SystemRandom().random,
        timeout_s=timeout_s,
        credentials=credentials,
    )
