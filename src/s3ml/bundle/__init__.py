"""Encrypted model bundles: pack, open, decrypt.

A bundle is a file that anyone may store: a signed manifest and an age payload. The manifest is opaque here;
whoever opens a bundle checks it against what the key service released. Plaintext exists on the model
owner's disk and in the memory of a TEE, nowhere else.
"""

from s3ml.bundle.contents import (
    Batching,
    Declaration,
    DeclaredTensor,
    ListedFile,
    ModelConfig,
    ModelFiles,
    Resources,
    RuntimeName,
)
from s3ml.bundle.errors import BundleMalformedError, BundleRejectedError
from s3ml.bundle.external_data import external_locations
from s3ml.bundle.flatbuffer import check_litert
from s3ml.bundle.opening import OpenBundle, PayloadStream, decrypt_payload, open_bundle
from s3ml.bundle.packing import EncryptedPayload, bundle_location, encrypt_payload, write_bundle
from s3ml.bundle.source import Source, SourceFile, inspect_source

__all__ = [
    "Batching",
    "BundleMalformedError",
    "BundleRejectedError",
    "Declaration",
    "DeclaredTensor",
    "EncryptedPayload",
    "ListedFile",
    "ModelConfig",
    "ModelFiles",
    "OpenBundle",
    "PayloadStream",
    "Resources",
    "RuntimeName",
    "Source",
    "SourceFile",
    "bundle_location",
    "check_litert",
    "decrypt_payload",
    "encrypt_payload",
    "external_locations",
    "inspect_source",
    "open_bundle",
    "write_bundle",
]
