"""The EPC of machines with Intel SGX: what their kernels let be counted, and how it is set up and undone.

Written from the kernel's sources and documents and tried on a kernel without the hardware: no figure of an
enclave was ever taken with it.
"""

from s3ml.tee_memory.sgx.pod import PodSource
from s3ml.tee_memory.sgx.source import SgxSource, epc_bytes, open_sgx

__all__ = ["PodSource", "SgxSource", "epc_bytes", "open_sgx"]
