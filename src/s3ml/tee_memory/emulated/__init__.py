"""An EPC that is EMULATED: a memory cgroup with a hard limit over compressed memory.

Co-located servers contend for it and page for real, at about the cost of an SGX page. Nothing is encrypted,
no enclave is entered, and no figure of it is a claim about SGX hardware. It needs root, cgroup version 1 and
zram.
"""

from s3ml.tee_memory.emulated.host import Host, check_host, find_lacks
from s3ml.tee_memory.emulated.node import EmulatedNode
from s3ml.tee_memory.emulated.source import EmulatedSource
from s3ml.tee_memory.emulated.state import Registry

__all__ = ["EmulatedNode", "EmulatedSource", "Host", "Registry", "check_host", "find_lacks"]
