"""The bundle format, held to its vectors.

Source: docs/spec/bundle.md; conformance/vectors/bundle.json.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyrage
import pytest

from s3ml.bundle import BundleMalformedError, BundleRejectedError, ModelFiles, decrypt_payload, open_bundle
from s3ml.bundle.archive import END, Member, encode_header, padding_bytes
from s3ml.bundle.contents import encode_listing, parse_listing

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "bundle.json").read_bytes())
OUTCOMES = {"malformed": BundleMalformedError, "rejected": BundleRejectedError}


def archive(*members: tuple[str, bytes]) -> bytes:
    """Join members as the specification says."""
    parts = [
        encode_header(Member(name=name, size_bytes=len(data))) + data + bytes(padding_bytes(len(data)))
        for name, data in members
    ]
    return b"".join((*parts, END))


def open_whole(vector: dict[str, Any], identity: str) -> ModelFiles:
    """Open a bundle the way a model server does, with what a signed manifest would promise."""
    bundle = open_bundle(io.BytesIO(base64.b64decode(vector["bundle"])))
    return decrypt_payload(
        bundle.payload,
        identity,
        expected_sha256=vector.get("sha256", VECTORS["sha256"]),
        expected_bytes=vector.get("size_bytes", VECTORS["size_bytes"]),
        limit_bytes=1 << 20,
    )


class TestGoodBundle:
    """The bundle of the vectors opens to its files."""

    def test_its_files_come_out_in_order(self) -> None:
        files = open_whole(VECTORS, VECTORS["identity"])

        assert list(files.files.items()) == [(n, base64.b64decode(d)) for n, d in VECTORS["files"].items()]

    def test_its_manifest_is_the_first_member(self) -> None:
        bundle = open_bundle(io.BytesIO(base64.b64decode(VECTORS["bundle"])))

        assert bundle.manifest.to_json() == base64.b64decode(VECTORS["manifest"])

    def test_its_archives_are_made_byte_for_byte(self) -> None:
        data = base64.b64decode(VECTORS["bundle"])
        manifest = base64.b64decode(VECTORS["manifest"])
        begin = len(archive(("manifest.json", manifest))) - len(END) + 512
        payload = data[begin : begin + VECTORS["size_bytes"]]
        plaintext = pyrage.decrypt(payload, [pyrage.x25519.Identity.from_str(VECTORS["identity"])])

        assert archive(("manifest.json", manifest), ("payload.age", payload)) == data
        assert plaintext == base64.b64decode(VECTORS["plaintext"])

    def test_another_identity_is_rejected(self) -> None:
        with pytest.raises(BundleRejectedError):
            open_whole(VECTORS, VECTORS["other_identity"])


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_what_the_format_does_not_allow_is_refused(vector: dict[str, Any]) -> None:
    """Each refusal is of the kind that the vector names."""
    with pytest.raises(OUTCOMES[vector["outcome"]]):
        open_whole(vector, VECTORS["identity"])


class TestListings:
    """What a listing may say beside its files."""

    @pytest.mark.parametrize("vector", VECTORS["listings"]["accepted"], ids=lambda vector: vector["name"])
    def test_what_the_format_allows_survives_writing_it_again(self, vector: dict[str, Any]) -> None:
        config = parse_listing(vector["listing"].encode())

        stated = {name: value for name, value in json.loads(vector["listing"]).items() if value}
        written = json.loads(encode_listing(config))
        assert written.keys() == stated.keys()
        assert parse_listing(encode_listing(config)) == config

    @pytest.mark.parametrize("vector", VECTORS["listings"]["refused"], ids=lambda vector: vector["name"])
    def test_what_it_does_not_allow_is_malformed(self, vector: dict[str, Any]) -> None:
        with pytest.raises(BundleMalformedError):
            parse_listing(vector["listing"].encode())

    def test_a_listing_that_declares_nothing_is_written_as_ever(self) -> None:
        plaintext = base64.b64decode(VECTORS["plaintext"])
        size_bytes = int(plaintext[124:135], 8)
        data = plaintext[512 : 512 + size_bytes]

        assert json.loads(encode_listing(parse_listing(data))) == json.loads(data)
