"""`s3ml witness serve`, which the kernel kills at the first write: before or after it is on the disk."""

import os
import signal
import sys
from typing import Any

from s3ml.apps.cli.root import run
from s3ml.apps.processes import witness
from s3ml.transparency.witness.store import SQLiteStore

WHEN = sys.argv[1]


class DyingStore(SQLiteStore):
    def advance(self, origin: str, **named: Any) -> None:
        if WHEN == "after":
            super().advance(origin, **named)
        os.kill(os.getpid(), signal.SIGKILL)


vars(witness)["SQLiteStore"] = DyingStore
sys.exit(run(["witness", "serve", *sys.argv[2:]]))
