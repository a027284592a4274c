"""A verified fake of Gramine's ``/dev/attestation``. SIMULATED: its quotes are a simulated platform's.

Source: Gramine 1.9, libos/src/fs/dev/attestation.c and libos_fs_pseudo.c: the value of ``user_report_data``
is one per process, each write replaces it and is padded with zeros, a read of it gives nothing; the quote is
made when ``quote`` is opened, and a failure to make it is EACCES; keys of SGX can be read alone.
"""

import errno
import io
from collections.abc import Callable

from tests.attestation.fakes.pseudo_files import Parts, PseudoPath, Reader, Writer, failure

REPORT_DATA_BYTES = 64
QUOTE_LIMIT_BYTES = 8192


class FakeGramine:
    """One enclave's pseudo-files.

    Args:
        quoting: Makes the quote that carries 64 bytes of report data; raises OSError where it cannot.
        attestation_type: ``dcap`` or ``none``, as the manifest says.
        sealing_key: The key of MRENCLAVE.
    """

    def __init__(
        self,
        quoting: Callable[[bytes], bytes],
        *,
        attestation_type: bytes = b"dcap",
        sealing_key: bytes = bytes(range(16)),
    ) -> None:
        self.quoting = quoting
        self.attestation_type = attestation_type
        self.sealing_key = sealing_key
        self.report_data = bytes(REPORT_DATA_BYTES)

    @property
    def root(self) -> PseudoPath:
        return PseudoPath(self)

    def exists(self, path: Parts) -> bool:
        return path in {(), ("keys",)} or path in self._files()

    def mkdir(self, path: Parts) -> None:
        raise failure(errno.EACCES, path)

    def rmdir(self, path: Parts) -> None:
        raise failure(errno.EACCES, path)

    def reader(self, path: Parts) -> io.RawIOBase:
        files = self._files()
        if path not in files:
            raise failure(errno.ENOENT, path)
        content = files[path]()
        return Reader(lambda: content)

    def writer(self, path: Parts) -> io.RawIOBase:
        if path not in self._files():
            raise failure(errno.ENOENT, path)
        if path != ("user_report_data",):
            raise failure(errno.EACCES, path)
        return Writer(self._take_report_data)

    def _take_report_data(self, data: bytes) -> None:
        self.report_data = data[:REPORT_DATA_BYTES].ljust(REPORT_DATA_BYTES, b"\0")

    def _quote(self) -> bytes:
        try:
            quote = self.quoting(self.report_data)
        except OSError as error:
            raise failure(errno.EACCES, ("quote",)) from error
        assert len(quote) <= QUOTE_LIMIT_BYTES
        return quote

    def _files(self) -> dict[Parts, Callable[[], bytes]]:
        files: dict[Parts, Callable[[], bytes]] = {
            ("attestation_type",): lambda: self.attestation_type,
            ("user_report_data",): lambda: b"",
            ("keys", "_sgx_mrenclave"): lambda: self.sealing_key,
        }
        if self.attestation_type != b"none":
            files["quote",] = self._quote
        return files
