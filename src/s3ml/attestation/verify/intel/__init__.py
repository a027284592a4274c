"""SGX and TDX: quotes that Intel's DCAP verifies, under Intel's root or a simulated one."""
