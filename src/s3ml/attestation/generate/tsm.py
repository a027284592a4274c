"""Linux's configfs-tsm: reports of a confidential guest, one entry for each request.

An entry has an unpredictable name, so that neither threads nor processes meet in one. A report counts only
where ``generation`` shows our own writes and no other, before and after it is read: configfs ignores what
becomes of a binary attribute when its file is closed, so that a write that was refused shows there alone.
The entry is removed whatever happens.

Source: Linux, Documentation/ABI/testing/configfs-tsm (6.7); drivers/virt/coco/tsm.c (EBUSY where too
many writes came without a read, EINVAL for a report without inblob, at most 32 KiB of a blob);
fs/configfs/file.c (binary attributes are written at close).
"""

import errno
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from s3ml.attestation.generate.attester import check_report_data
from s3ml.attestation.generate.directory import Directory, read_bounded, write_whole
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.units import KIB

BLOB_LIMIT_BYTES: Final = 32 * KIB
ATTEMPTS: Final = 5
FIRST_PAUSE_S: Final = 0.02
_TEXT_LIMIT_BYTES = 64
_REMOVALS = 3
_GENERATION_LIMIT_DIGITS = 20
_PRIVILEGE_LEVELS = (b"0", b"1", b"2", b"3")
# Somebody else is at it: a quote in flight (TDX), a throttled firmware (SEV-SNP), a signal, a taken name.
_PASSING = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EEXIST})


class Provider(StrEnum):
    """Who makes the reports, by the kernel's names."""

    TDX = "tdx_guest"
    SEV_SNP = "sev_guest"


@dataclass(frozen=True, slots=True, kw_only=True)
class TsmReport:
    """What one request gave.

    Args:
        outblob: A TDX quote or a SEV-SNP report, at most 32 KiB.
        auxblob: With SEV-SNP: the host's table of certificates, at most 32 KiB, from the untrusted host.
    """

    outblob: bytes
    auxblob: bytes = b""


class TsmReports:
    """Asks the kernel for reports; safe for several threads and processes.

    Args:
        root: ``/sys/kernel/config/tsm/report``.
        provider: Who has to make the reports.
        pause: Waits that many seconds before an attempt is repeated.
    """

    __slots__ = ("_pause", "_provider", "_root")

    def __init__(
        self, root: Directory, provider: Provider, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._root = root
        self._provider = provider
        self._pause = pause

    def request(self, report_data: bytes) -> TsmReport:
        """Return a report that carries `report_data`; blocks.

        Args:
            report_data: Exactly 64 bytes.

        Raises:
            ConfigurationError: `report_data` has another length, or another provider makes the reports.
            UnavailableError: The kernel or the host does not give a report, or others kept writing into our
                entries.
        """
        check_report_data(report_data)
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                return self._request_once(report_data)
            except _ConflictError as conflict:
                reason = str(conflict)
            except OSError as error:
                reason = error.strerror or str(error)
                if error.errno not in _PASSING:
                    raise UnavailableError(f"configfs-tsm: no report: {reason}") from error
        raise UnavailableError(f"configfs-tsm: no report in {ATTEMPTS} attempts, the last: {reason}")

    def _request_once(self, report_data: bytes) -> TsmReport:
        with _entry(self._root) as entry:
            provider = _read_text(entry / "provider")
            if provider != self._provider.encode():
                raise ConfigurationError(
                    f"configfs-tsm: provider: expected {self._provider}, got {provider[:32]!r}"
                )
            expected = _generation(entry) + self._write(entry, report_data)
            _check_generation(entry, expected)
            report = self._read(entry)
            _check_generation(entry, expected)
            return report

    def _write(self, entry: Directory, report_data: bytes) -> int:
        """Write what the report shall be about and return the number of writes."""
        write_whole(entry / "inblob", report_data)
        if self._provider is not Provider.SEV_SNP:
            return 1
        # The most privileged level that this guest has: what less privileged code cannot claim.
        level = _read_text(entry / "privlevel_floor")
        if level not in _PRIVILEGE_LEVELS:
            raise UnavailableError("configfs-tsm: privlevel_floor: expected 0 to 3, got something else")
        write_whole(entry / "privlevel", level)
        return 2

    def _read(self, entry: Directory) -> TsmReport:
        outblob = _read_blob(entry, "outblob")
        if not outblob:
            raise _ConflictError("an empty report")
        auxblob = _read_blob(entry, "auxblob") if self._provider is Provider.SEV_SNP else b""
        return TsmReport(outblob=outblob, auxblob=auxblob)


def find_provider(root: Directory) -> Provider:
    """Return who makes the reports of this guest.

    Raises:
        ConfigurationError: nobody, or one that is not known here.
    """
    try:
        with _entry(root) as entry:
            name = _read_text(entry / "provider").decode("ascii", "replace")
        return Provider(name)
    except OSError as error:
        raise ConfigurationError(
            f"configfs-tsm: no entry can be made: {error.strerror}: expected a guest of TDX or SEV-SNP, "
            "and the rights to write there"
        ) from error
    except ValueError as error:
        known = " or ".join(Provider)
        raise ConfigurationError(f"configfs-tsm: provider: expected {known}, got {name[:32]!r}") from error


class _ConflictError(Exception):
    """Another one wrote into our entry, or the kernel refused a write without saying so."""


@contextmanager
def _entry(root: Directory) -> Iterator[Directory]:
    entry = root / f"s3ml-{secrets.token_hex(16)}"
    entry.mkdir()
    try:
        yield entry
    finally:
        _remove(entry)


def _remove(entry: Directory) -> None:
    """Remove an entry; one that stays is a few bytes of the guest's kernel, and no reason to fail."""
    for _ in range(_REMOVALS):
        try:
            entry.rmdir()
        except OSError:
            continue
        return


def _check_generation(entry: Directory, expected: int) -> None:
    got = _generation(entry)
    if got != expected:
        raise _ConflictError(f"generation: expected {expected}, got {got}")


def _generation(entry: Directory) -> int:
    text = _read_text(entry / "generation")
    if not text.isdigit() or len(text) > _GENERATION_LIMIT_DIGITS:
        raise UnavailableError("configfs-tsm: generation: expected a number, got something else")
    return int(text)


def _read_text(file: Directory) -> bytes:
    return read_bounded(file, limit_bytes=_TEXT_LIMIT_BYTES, what="configfs-tsm").removesuffix(b"\n")


def _read_blob(entry: Directory, name: str) -> bytes:
    return read_bounded(entry / name, limit_bytes=BLOB_LIMIT_BYTES, what=f"configfs-tsm: {name}")
