"""A simulated TEE platform: real DCAP quotes under a root of its own, which protect nothing.

Host side, and the enclave's socket client. What runs in a TEE never imports it, and a production image leaves
it out.
"""
