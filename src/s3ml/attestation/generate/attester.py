"""What a TEE offers to the code inside it.

An attester says nothing about trust: whoever verifies its evidence decides.
"""

from typing import Protocol

from s3ml.attestation.evidence import Evidence, Tee
from s3ml.primitives.secret import SecretBytes


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
            UnavailableError: The platform does not answer.
        """
        ...
