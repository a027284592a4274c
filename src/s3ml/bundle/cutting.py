"""Cutting a plaintext tar into members while it streams in."""

import hashlib
import io
from dataclasses import dataclass, field

from s3ml.bundle.archive import BLOCK_BYTES, Member, check_zeros, decode_header, padding_bytes
from s3ml.bundle.contents import FILES_LIMIT, LISTING_LIMIT_BYTES, LISTING_NAME
from s3ml.bundle.errors import BundleMalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFile:
    """One member: its bytes, held once, and their hexadecimal SHA-256."""

    data: bytes = field(repr=False)
    sha256: str


class MemberCutter:
    """Accepts a tar in pieces of any size and keeps what its members hold.

    The first problem is kept, not raised, and later pieces are dropped: whether they were the promised bytes
    at all is decided first, elsewhere.

    Args:
        limit_bytes: How much all members together may hold.
    """

    __slots__ = (
        "_body",
        "_digest",
        "_head",
        "_is_ended",
        "_left",
        "_limit_bytes",
        "_name",
        "_padding",
        "_total_bytes",
        "failure",
        "files",
    )

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._total_bytes = 0
        self._head = bytearray()
        self._name = ""
        self._body, self._digest = io.BytesIO(), hashlib.sha256()
        self._left = self._padding = 0
        self._is_ended = False
        self.files: dict[str, CutFile] = {}
        self.failure: BundleMalformedError | MemoryError | None = None

    def write(self, data: bytes) -> int:
        """Take a piece, however it is cut."""
        if self.failure is None:
            try:
                self._take(memoryview(data))
            except (BundleMalformedError, MemoryError) as error:
                self._fail(error)
        return len(data)

    def flush(self) -> None:
        """Pieces are taken at once, so nothing is left to do here."""

    def close(self) -> dict[str, CutFile]:
        """Return the members in their order, once the archive ended as it must.

        Raises:
            BundleMalformedError: the first problem, or the archive has no end.
            MemoryError: there was too little memory for it.
        """
        if self.failure is None and not (self._is_ended and self._padding == 0):
            self._fail(BundleMalformedError("bundle: the archive in the payload is truncated"))
        if self.failure is not None:
            raise self.failure
        return self.files

    def _fail(self, failure: BundleMalformedError | MemoryError) -> None:
        """Keep the first problem and let go of everything else."""
        self.failure = failure
        self.files = {}
        self._body = io.BytesIO()

    def _take(self, data: memoryview) -> None:
        """Hand each part of a piece to what it belongs to."""
        while data:
            if self._left:
                data = self._take_content(data)
            elif self._padding:
                piece, data = data[: self._padding], data[self._padding :]
                check_zeros(piece, what="the padding of the payload")
                self._padding -= len(piece)
            elif self._is_ended:
                raise BundleMalformedError("bundle: something follows the archive in the payload")
            else:
                data = self._take_head(data)

    def _take_content(self, data: memoryview) -> memoryview:
        piece, rest = data[: self._left], data[self._left :]
        self._body.write(piece)
        self._digest.update(piece)
        self._left -= len(piece)
        if not self._left:
            self._finish_member()
        return rest

    def _take_head(self, data: memoryview) -> memoryview:
        missing = BLOCK_BYTES - len(self._head)
        self._head += data[:missing]
        if len(self._head) == BLOCK_BYTES:
            member = decode_header(bytes(self._head))
            self._head.clear()
            if member is None:
                self._is_ended, self._padding = True, BLOCK_BYTES
            else:
                self._begin_member(member)
        return data[missing:]

    def _begin_member(self, member: Member) -> None:
        """Apply the rules of members: the listing first, nothing twice, limits before contents."""
        is_first = not self.files
        if is_first != (member.name == LISTING_NAME):
            raise BundleMalformedError(f"bundle: expected {LISTING_NAME} first and once")
        if is_first and member.size_bytes > LISTING_LIMIT_BYTES:
            raise BundleMalformedError(
                f"bundle: {LISTING_NAME} is larger than {LISTING_LIMIT_BYTES} bytes: {member.size_bytes}"
            )
        if member.name in self.files:
            raise BundleMalformedError(f"bundle: {member.name} occurs twice")
        if len(self.files) > FILES_LIMIT:
            raise BundleMalformedError(f"bundle: expected at most {FILES_LIMIT} files")
        self._total_bytes += member.size_bytes
        if self._total_bytes > self._limit_bytes:
            raise BundleMalformedError(
                f"bundle: its files claim more than the {self._limit_bytes} bytes it has"
            )
        self._name, self._left, self._padding = (
            member.name,
            member.size_bytes,
            padding_bytes(member.size_bytes),
        )
        self._body, self._digest = io.BytesIO(), hashlib.sha256()
        if not member.size_bytes:
            self._finish_member()

    def _finish_member(self) -> None:
        """Keep the content: `getvalue` shares the buffer, so this copies nothing."""
        self.files[self._name] = CutFile(data=self._body.getvalue(), sha256=self._digest.hexdigest())
        self._body = io.BytesIO()
