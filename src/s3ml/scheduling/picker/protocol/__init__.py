"""The messages of Envoy's external processing that a picker needs: `ext_proc_pb2`, from `ext_proc.proto`.

A subset with Envoy's own numbers, in a descriptor pool of its own, so that a program that has all of Envoy's
messages can import these as well; docs/adr/0026-steering-envoy.md says why not the whole.

Source: Envoy, `envoy.service.ext_proc.v3`, `envoy.config.core.v3`.
"""
