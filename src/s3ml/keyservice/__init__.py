"""The attested key service: the log of what the owners allow, and keys for who proves what it is."""
