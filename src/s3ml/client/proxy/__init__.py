"""The proxy: a local endpoint that speaks the plain Open Inference Protocol and forwards sealed.

Nothing leaves but through the client: sealed to a service that was verified. Needs the extra ``proxy``.

Source: docs/proxy.md.
"""
