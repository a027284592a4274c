"""The messages of the Open Inference Protocol over gRPC: `oip_pb2`, generated from `oip.proto`.

They live in a descriptor pool of their own, so that a program that has another client's copy of the same
messages can import these as well.

Source: Open Inference Protocol, "gRPC"; Triton's model repository extension.
"""
