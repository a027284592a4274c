"""Whatever a store hands out is the promised model, or one clear error."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import msgspec
import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3ml.bundle import BundleMalformedError, BundleRejectedError, open_bundle
from s3ml.bundle.contents import FILES_LIMIT, LISTING_LIMIT_BYTES
from s3ml.bundle.cutting import MemberCutter
from s3ml.primitives.envelope import Envelope
from tests.bundle.conftest import Packed, tar

Forge = Callable[[bytes], Packed]
MODEL = ("model.onnx", b"model")
X = {"name": "x", "datatype": "FP32", "shape": [-1]}
MANIFEST = Envelope(payload_type="application/vnd.test", payload=b"{}")


def listing(*files: tuple[str, bytes], **changes: Any) -> tuple[str, bytes]:
    stated = {
        "version": 1,
        "runtime": "onnx",
        "files": [
            {"name": n, "size_bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files
        ],
    }
    return "files.json", msgspec.json.encode({**stated, **changes})


def bundle(payload: bytes = b"payload", manifest: bytes | None = None) -> bytes:
    return tar(
        ("manifest.json", MANIFEST.to_json() if manifest is None else manifest), ("payload.age", payload)
    )


class TestPayload:
    """Nothing is handed out before the digest of the whole payload held."""

    def test_the_promised_payload_opens(self, packed: Packed) -> None:
        files = packed.open()

        assert (files.config.runtime, set(files.external)) == ("onnx", {"w.bin"})
        assert files.model == files.files["model.onnx"]

    def test_contents_show_in_no_repr(self, packed: Packed) -> None:
        assert "MatMul" not in repr(packed.open())

    def test_an_empty_file_is_a_file(self, forge: Forge) -> None:
        files = forge(tar(listing(MODEL, ("empty", b"")), MODEL, ("empty", b""))).open()

        assert files.external == {"empty": b""}

    def test_one_that_exceeds_the_limit_is_not_even_read(self, packed: Packed) -> None:
        stream = io.BytesIO(packed.payload)

        with pytest.raises(BundleRejectedError, match="expected at most 10 bytes"):
            packed.open(stream=stream, limit_bytes=10)
        assert stream.tell() == 0

    @pytest.mark.parametrize("keep", [0, 10, 150, -100, -1])
    def test_a_truncated_one_names_its_sizes(self, packed: Packed, keep: int) -> None:
        cut = packed.payload[:keep]
        expected = f"expected {len(packed.payload)} bytes, got {len(cut)}"

        with pytest.raises(BundleRejectedError, match=expected):
            packed.open(stream=io.BytesIO(cut))

    def test_a_longer_one_is_read_one_byte_too_far_and_no_further(self, packed: Packed) -> None:
        stream = io.BytesIO(packed.payload + bytes(1 << 22))

        with pytest.raises(BundleRejectedError, match=f"got {len(packed.payload) + 1}"):
            packed.open(stream=stream)
        assert stream.tell() == len(packed.payload) + 1

    @pytest.mark.parametrize("position", [5, 60, 180, -40])
    def test_a_garbled_one_names_both_digests(self, packed: Packed, position: int) -> None:
        garbled = bytearray(packed.payload)
        garbled[position] ^= 1
        got = hashlib.sha256(garbled).hexdigest()

        with pytest.raises(BundleRejectedError, match=f"expected SHA-256 {packed.sha256}, got {got}"):
            packed.open(stream=io.BytesIO(bytes(garbled)))

    def test_one_that_the_cipher_gives_up_on_is_still_read_to_its_end(self, forge: Forge) -> None:
        weights = ("w", bytes(100_000))
        made = forge(tar(listing(MODEL, weights), MODEL, weights))
        garbled = b"X" + made.payload[1:]

        with pytest.raises(BundleRejectedError, match=f"got {hashlib.sha256(garbled).hexdigest()}"):
            made.open(stream=io.BytesIO(garbled))

    def test_another_models_payload_names_both_digests(self, packed: Packed, forge: Forge) -> None:
        other = forge(tar(listing(MODEL), MODEL))

        with pytest.raises(BundleRejectedError, match="expected SHA-256"):
            packed.open(stream=io.BytesIO(other.payload), expected_bytes=len(other.payload))

    def test_a_payload_that_opens_but_was_not_promised_is_refused(self, forge: Forge) -> None:
        made = forge(tar(listing(MODEL), MODEL))

        with pytest.raises(BundleRejectedError, match="expected SHA-256"):
            made.open(expected_sha256="0" * 64)

    def test_the_wrong_identity_is_refused(self, packed: Packed) -> None:
        other = str(pyrage.x25519.Identity.generate())

        with pytest.raises(BundleRejectedError, match="the identity does not open it") as refused:
            packed.open(identity=other)
        assert other not in str(refused.value)

    def test_what_is_no_identity_is_refused_without_repeating_it(self, packed: Packed) -> None:
        with pytest.raises(BundleRejectedError, match="not an age X25519 identity") as refused:
            packed.open(identity="AGE-SECRET-KEY-1SECRET")
        assert "SECRET-KEY" not in str(refused.value)
        assert refused.value.__cause__ is None

    def test_a_stream_that_fails_says_its_own_reason(self, packed: Packed) -> None:
        class Failing(io.RawIOBase):
            def read(self, _size: int = -1) -> bytes:
                raise TimeoutError("the store is slow")

        with pytest.raises(TimeoutError, match="the store is slow"):
            packed.open(stream=Failing())

    def test_a_stream_that_fails_after_the_cipher_gave_up_says_so_too(self, packed: Packed) -> None:
        class FailingLater(io.RawIOBase):
            reads = 0

            def read(self, size: int = -1) -> bytes:
                self.reads += 1
                if self.reads > 1:
                    raise TimeoutError("the store is slow")
                return b"no age file\n" * 20

        with pytest.raises(TimeoutError, match="the store is slow"):
            packed.open(stream=FailingLater())


class TestContents:
    """What is inside the promised payload has one form."""

    @pytest.mark.parametrize(
        ("plaintext", "complaint"),
        [
            (b"", "truncated"),
            (b"x" * 100, "truncated"),
            (b"x" * 512, "header is malformed"),
            (tar(listing(MODEL), MODEL, end=b""), "truncated"),
            (tar(listing(MODEL), MODEL, end=bytes(512)), "truncated"),
            (tar(listing(MODEL), MODEL, end=bytes(512) + b"\x01" + bytes(511)), "only zeros"),
            (tar(listing(MODEL), MODEL) + b"\x00", "something follows"),
            (tar(), "got an empty archive"),
            (tar(MODEL), r"expected files\.json first and once"),
            (tar(listing(MODEL), listing(MODEL), MODEL), r"expected files\.json first and once"),
            (tar(listing(MODEL), MODEL, MODEL), "occurs twice"),
            (tar(("files.json", bytes(LISTING_LIMIT_BYTES + 1))), "is larger than"),
            (tar(listing(MODEL), ("other", b"model")), r"first in model\.onnx"),
            (tar(listing(MODEL), ("model.onnx", b"MODEL")), r"first in model\.onnx"),
            (tar(listing(MODEL), MODEL, ("more", b"")), "their number"),
            (tar(listing(MODEL, ("more", b"")), MODEL), "their number"),
            (tar(listing(("other", b""))), r"names no model\.onnx"),
            (tar(listing(MODEL, MODEL), MODEL), "names a file twice"),
            (tar(listing(MODEL, ("files.json", b"")), MODEL), "or itself"),
            (tar(listing(MODEL, version=2), MODEL), "files.json"),
            (tar(listing(MODEL, runtime="pickle"), MODEL), "files.json"),
            (tar(listing(MODEL, more=1), MODEL), "unknown field"),
            (tar(listing(MODEL, runtime="litert"), MODEL), r"names no model\.tflite"),
            (tar(listing(MODEL, inputs=[X, X]), MODEL), "inputs: expected each name once"),
            (tar(listing(MODEL, outputs=[X, X]), MODEL), "outputs: expected each name once"),
            (tar(("files.json", b"\xff"), MODEL), "files.json"),
        ],
    )
    def test_another_form_is_malformed(self, forge: Forge, plaintext: bytes, complaint: str) -> None:
        with pytest.raises(BundleMalformedError, match=complaint):
            forge(plaintext).open(limit_bytes=1 << 22)

    def test_padding_holds_nothing(self, forge: Forge) -> None:
        plaintext = bytearray(tar(listing(MODEL), MODEL))
        plaintext[-1024 - 1] = 1

        with pytest.raises(BundleMalformedError, match="the padding of the payload"):
            forge(bytes(plaintext)).open()

    def test_a_header_that_claims_too_much_takes_no_memory(self, forge: Forge) -> None:
        from s3ml.bundle.archive import Member, encode_header

        huge = tar(listing(MODEL), end=b"") + encode_header(Member(name="model.onnx", size_bytes=1 << 32))

        with pytest.raises(BundleMalformedError, match="claim more than"):
            forge(huge).open()

    def test_too_many_files_are_refused(self, forge: Forge) -> None:
        files = [(f"f{number}", b"") for number in range(FILES_LIMIT + 1)]

        with pytest.raises(BundleMalformedError, match="at most 1024 files"):
            forge(tar(listing(MODEL), *files)).open()

    def test_too_little_memory_is_not_mistaken_for_a_bad_bundle(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def exhausted(_self: MemberCutter, _data: memoryview) -> None:
            raise MemoryError

        monkeypatch.setattr(MemberCutter, "_take", exhausted)
        cutter = MemberCutter(limit_bytes=1 << 20)
        cutter.write(b"x")
        cutter.write(b"y")
        with pytest.raises(MemoryError):
            cutter.close()

    @given(cuts=st.lists(st.integers(min_value=1, max_value=700), min_size=1, max_size=20))
    def test_the_way_it_arrives_makes_no_difference(self, cuts: list[int]) -> None:
        plaintext = tar(listing(MODEL, ("w", b"w" * 700)), MODEL, ("w", b"w" * 700))
        cutter, position = MemberCutter(limit_bytes=len(plaintext)), 0
        while position < len(plaintext):
            size = cuts[position % len(cuts)]
            assert cutter.write(plaintext[position : position + size]) <= size
            position += size
        cutter.flush()

        assert [file.data for file in cutter.close().values()][1:] == [b"model", b"w" * 700]

    @given(data=st.data())
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_change_is_read_or_refused(self, data: st.DataObject) -> None:
        plaintext = bytearray(tar(listing(MODEL), MODEL))
        position = data.draw(st.integers(min_value=0, max_value=len(plaintext) - 1))
        plaintext[position] = data.draw(st.integers(min_value=0, max_value=255))
        cutter = MemberCutter(limit_bytes=len(plaintext))
        cutter.write(bytes(plaintext))
        try:
            assert list(cutter.close())
        except BundleMalformedError as error:
            assert str(error).startswith("bundle")


class TestBundleFile:
    """The outer file is read as far as it must be, and not trusted."""

    def test_the_payload_stays_unread_until_asked_for(self) -> None:
        stream = io.BytesIO(bundle())
        opened = open_bundle(stream)

        assert (opened.manifest, opened.payload.size_bytes) == (MANIFEST, 7)
        assert stream.tell() == 3 * 512
        assert opened.payload.read(3) + opened.payload.read(100) + opened.payload.read(1) == b"payload"

    def test_its_repr_shows_no_payload(self) -> None:
        assert "PayloadStream" not in repr(open_bundle(io.BytesIO(bundle())))

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (b"", "truncated"),
            (b"PK\x03\x04" + bytes(508), "header"),
            (bytes(1024), r"expected manifest\.json, got the end"),
            (tar(("payload.age", b"p")), r"expected manifest\.json, got payload\.age"),
            (tar(("manifest.json", MANIFEST.to_json())), r"expected payload\.age, got the end"),
            (bundle()[:700], "truncated"),
            (bundle(manifest=b"{}"), r"manifest\.json: envelope"),
            (bundle(manifest=bytes((4 << 20) + 1)), "at most 4194304 bytes"),
        ],
    )
    def test_what_is_no_bundle_is_malformed(self, data: bytes, complaint: str) -> None:
        with pytest.raises(BundleMalformedError, match=complaint):
            open_bundle(io.BytesIO(data))

    def test_the_padding_of_the_manifest_holds_nothing(self) -> None:
        data = bytearray(bundle())
        data[1023] = 1

        with pytest.raises(BundleMalformedError, match=r"padding of manifest\.json"):
            open_bundle(io.BytesIO(bytes(data)))

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (bundle()[: 3 * 512 + 3], r"expected 7 bytes of payload\.age, got 3"),
            (bundle()[:-1], "bytes after payload.age"),
            (bundle() + b"\x00", "bytes after payload.age"),
            (bundle()[:-1] + b"\x01", "only zeros"),
        ],
    )
    def test_the_payload_ends_where_it_says(self, data: bytes, complaint: str) -> None:
        payload = open_bundle(io.BytesIO(data)).payload

        with pytest.raises(BundleMalformedError, match=complaint):
            list(iter(lambda: payload.read(5), b""))

    def test_an_empty_payload_reads_as_nothing(self) -> None:
        assert open_bundle(io.BytesIO(bundle(b""))).payload.read(1) == b""

    def test_a_truncated_bundle_says_so_through_decryption(self, packed: Packed) -> None:
        data = bundle(packed.payload)[: -1024 - 600]

        with pytest.raises(BundleMalformedError, match="truncated"):
            packed.open(stream=open_bundle(io.BytesIO(data)).payload)

    @given(st.binary(max_size=2000))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        with pytest.raises(BundleMalformedError):
            open_bundle(io.BytesIO(data))
