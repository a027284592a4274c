"""The simulated platform, seen from an enclave process: quotes and the sealing key over a socket.

SIMULATED: what it returns is only as trustworthy as the machine that it runs on. Nothing is cached, so that
evidence is as fresh as its report data.
"""

from pathlib import Path

from s3ml.attestation.evidence import REPORT_DATA_BYTES, Evidence, Tee, parse_evidence
from s3ml.attestation.simulated.protocol import (
    QuoteReply,
    QuoteRequest,
    SealingKeyReply,
    SealingKeyRequest,
    exchange,
)
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes

_TIMEOUT_S = 10.0


class SimulatedAttester:
    """An `Attester` of the simulated platform.

    Args:
        socket_path: The platform's ``quote.sock``.
    """

    __slots__ = ("_socket_path",)

    def __init__(self, socket_path: Path | str) -> None:
        self._socket_path = str(socket_path)

    @property
    def tee(self) -> Tee:
        """Always `Tee.SIMULATED`."""
        return Tee.SIMULATED

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence of this very process that carries `report_data`; blocks.

        Args:
            report_data: Exactly 64 bytes.

        Raises:
            ConfigurationError: `report_data` has another length.
            PlatformRefusedError: The platform did not launch this process.
            UnavailableError: The platform does not answer.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise ConfigurationError(
                f"report data: expected {REPORT_DATA_BYTES} bytes, got {len(report_data)}"
            )
        reply = exchange(
            self._socket_path, QuoteRequest(report_data=report_data), QuoteReply, timeout_s=_TIMEOUT_S
        )
        return parse_evidence(reply.evidence)

    def sealing_key(self) -> SecretBytes:
        """Return 32 bytes bound to this platform and this process's measurement; blocks.

        Raises:
            PlatformRefusedError: The platform did not launch this process.
            UnavailableError: The platform does not answer.
        """
        reply = exchange(self._socket_path, SealingKeyRequest(), SealingKeyReply, timeout_s=_TIMEOUT_S)
        return SecretBytes(reply.key)
