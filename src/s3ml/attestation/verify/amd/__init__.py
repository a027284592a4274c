"""SEV-SNP: reports that a processor signed, under AMD's roots or a simulated one."""
