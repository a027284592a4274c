"""SGX under Gramine: quotes and the sealing key from the pseudo-files in ``/dev/attestation``.

Gramine makes the quote when ``quote`` is opened, over what was last written to ``user_report_data``. Both
belong to the whole process and are not synchronised: one lock for all attesters of a process joins the two
steps, and the quote is looked at before it is given out.

The sealing key is bound to MRENCLAVE, to the processor and to its security version: after an update of the
microcode it is another one.

Source: Gramine 1.9, "Attestation and Secret Provisioning", section "Low-level /dev/attestation interface";
libos/src/fs/dev/attestation.c (each write replaces the whole value and is padded with zeros; failures to
quote are EACCES; a quote has at most 8 KiB); pal/src/host/linux-sgx/enclave_framework.c, sgx_get_seal_key.
"""

import threading
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from s3ml.attestation.evidence import QUOTE_LIMIT_BYTES, Evidence, Tee
from s3ml.attestation.generate.attester import check_report_data
from s3ml.attestation.generate.collateral import CollateralSource, collateral_for
from s3ml.attestation.generate.directory import Directory, read_bounded, write_whole
from s3ml.primitives.encoding import tagged
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.secret import SecretBytes

ATTESTATION_TYPE: Final = b"dcap"
SEALING_KEY_TAG: Final = "S3ML Gramine sealing key v1"
SEALING_KEY_BYTES: Final = 32
SGX_KEY_BYTES: Final = 16
_TYPE_LIMIT_BYTES = 64
_REPORT_DATA = slice(368, 432)  # in a quote of version 3: after its header and 320 bytes of the report
_WHAT = "Gramine"

_pseudo_files = threading.Lock()


class GramineAttester:
    """An `Attester` of an SGX enclave under Gramine.

    Args:
        root: ``/dev/attestation``.
        collateral: What Intel says of the platform.

    Raises:
        ConfigurationError: The manifest does not ask for DCAP, or this is no enclave.
    """

    __slots__ = ("_collateral", "_root")

    def __init__(self, root: Directory, collateral: CollateralSource) -> None:
        self._root = root
        self._collateral = collateral
        try:
            kind = read_bounded(root / "attestation_type", limit_bytes=_TYPE_LIMIT_BYTES, what=_WHAT)
        except OSError as error:
            raise ConfigurationError(
                f"Gramine: attestation_type cannot be read: {error.strerror}: expected an SGX enclave"
            ) from error
        if kind != ATTESTATION_TYPE:
            raise ConfigurationError(
                f"Gramine: attestation_type: expected {ATTESTATION_TYPE!r}, got {kind[:16]!r}: "
                'set sgx.remote_attestation = "dcap" in the manifest'
            )

    @property
    def tee(self) -> Tee:
        """Always `Tee.SGX`."""
        return Tee.SGX

    def quote(self, report_data: bytes) -> Evidence:
        """Return evidence of this enclave that carries `report_data`; blocks.

        Args:
            report_data: Exactly 64 bytes.

        Raises:
            ConfigurationError: `report_data` has another length.
            UnavailableError: The quoting enclave, its service, or every source of collateral does not
                answer; or other code of this process wrote report data of its own in between.
        """
        check_report_data(report_data)
        try:
            with _pseudo_files:
                write_whole(self._root / "user_report_data", report_data)
                quote = read_bounded(
                    self._root / "quote", limit_bytes=QUOTE_LIMIT_BYTES, what="Gramine: quote"
                )
        except OSError as error:
            raise UnavailableError(
                f"Gramine: no quote: {error.strerror}: see that the host's quoting service (AESM) answers"
            ) from error
        if quote[_REPORT_DATA] != report_data:
            raise UnavailableError(
                "Gramine: quote: expected the report data just written, got others: try again, and see that "
                "nothing else in this process writes to user_report_data"
            )
        collateral = collateral_for(self._collateral, quote, what="Gramine")
        return Evidence(tee=Tee.SGX, quote=quote, collateral=collateral)

    def sealing_key(self) -> SecretBytes:
        """Return 32 bytes bound to this processor and MRENCLAVE, stretched from SGX's 16.

        Raises:
            UnavailableError: Gramine has no such key.
        """
        try:
            key = read_bounded(
                self._root / "keys" / "_sgx_mrenclave", limit_bytes=SGX_KEY_BYTES, what="Gramine: sealing key"
            )
        except OSError as error:
            raise UnavailableError(f"Gramine: sealing key: {error.strerror}") from error
        if len(key) != SGX_KEY_BYTES:
            raise UnavailableError(f"Gramine: sealing key: expected {SGX_KEY_BYTES} bytes, got {len(key)}")
        derivation = HKDF(
            algorithm=SHA256(), length=SEALING_KEY_BYTES, salt=None, info=tagged(SEALING_KEY_TAG)
        )
        return SecretBytes(derivation.derive(key))
