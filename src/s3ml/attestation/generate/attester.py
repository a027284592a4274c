"""What a TEE offers to the code inside it.

An attester says nothing about trust: whoever verifies its evidence decides.
"""

from typing import Protocol

from s3ml.attestation.evidence import REPORT_DATA_BYTES, Evidence, Tee
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.secret import SecretBytes


class SealingAbsentError(UnavailableError):
    """This kind of TEE has no sealing key: nothing that it keeps outlives its process."""


class Attester(Protocol):
    """A TEE, seen from inside; every method blocks, so an event loop calls it in a thread."""

    @property
    def tee(self) -> Tee:
        """The kind of TEE."""
        ...

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence of this very code that carries `report_data`.

        Args:
            report_data: Exactly 64 bytes, from `Binding.report_data`.

        Raises:
            ConfigurationError: `report_data` has another length.
            UnavailableError: The quoting service does not answer.
        """
        ...

    def sealing_key(self) -> SecretBytes:
        """Return 32 bytes that only the same code on the same platform gets again.

        It keeps a secret; it gives no freshness: the host can bring back older sealed state.

        Raises:
            SealingAbsentError: This kind of TEE has no such key.
            UnavailableError: The platform does not answer.
        """
        ...


def check_report_data(report_data: bytes) -> None:
    """Refuse report data that no quote can carry: pseudo-files would pad or take what is shorter.

    Raises:
        ConfigurationError: it does not have 64 bytes.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ConfigurationError(f"report data: expected {REPORT_DATA_BYTES} bytes, got {len(report_data)}")
