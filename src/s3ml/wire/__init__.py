"""What crosses the wire, sans I/O: HPKE, Binary HTTP, Oblivious HTTP and the Open Inference Protocol.

Nothing here opens a connection or reads a clock; every input has a limit, and every malformed input is one
of the errors of `s3ml.wire.errors`.

Source: docs/spec/sealed-request.md.
"""
