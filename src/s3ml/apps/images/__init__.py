"""Images for Gramine: what an enclave's folder holds, its manifest, and the rules that a manifest keeps."""
