"""The attested key service: the log of what the owners allow, and the release of keys to who proves itself."""
