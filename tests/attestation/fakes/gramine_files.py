"""Gramine's ``/dev/attestation`` as real files, for another process. SIMULATED.

``quote`` is a FIFO: whoever opens it gets a quote over what lies in ``user_report_data`` at that moment. A
thread feeds it, and puts a new FIFO in its place before it writes, so that no reader gets two quotes.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

REPORT_DATA_BYTES = 64


class GramineFiles:
    """A folder that looks like Gramine's, for as long as the context lasts.

    Args:
        folder: An existing, empty folder.
        quoting: Makes the quote that carries 64 bytes of report data.
        sealing_key: The key of MRENCLAVE.
    """

    def __init__(
        self, folder: Path, quoting: Callable[[bytes], bytes], *, sealing_key: bytes = bytes(range(16))
    ) -> None:
        self.folder = folder
        self._quoting = quoting
        self._is_over = False
        self._feeder = threading.Thread(target=self._feed, name="quotes")
        (folder / "keys").mkdir()
        (folder / "attestation_type").write_bytes(b"dcap")
        (folder / "user_report_data").write_bytes(b"")
        (folder / "keys" / "_sgx_mrenclave").write_bytes(sealing_key)
        os.mkfifo(folder / "quote")

    def __enter__(self) -> Self:
        self._feeder.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        with (self.folder / "quote").open("rb") as stream:  # lets the feeder go on, and end
            stream.read()
        self._feeder.join()

    def _feed(self) -> None:
        while not self._is_over:
            with (self.folder / "quote").open("wb") as stream:
                following = self.folder / "quote.next"
                os.mkfifo(following)
                following.replace(self.folder / "quote")
                if not self._is_over:
                    written = (self.folder / "user_report_data").read_bytes()
                    stream.write(self._quoting(written.ljust(REPORT_DATA_BYTES, b"\0")))
