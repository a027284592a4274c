"""Scheduling: which replica serves a request, by what the TEE memory of its host can bear."""
