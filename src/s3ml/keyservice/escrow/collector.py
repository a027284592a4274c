"""Gather shares for one request inside the TEE, until they are enough to give the wrapping key back.

Each contribution is judged alone, before anything is combined: a wrong one is refused by name and spoils
nothing. The wrapping key leaves once, and only where the request's purpose is recovery.

Source: docs/spec/recovery.md, section "Contributions".
"""

from collections.abc import Callable
from dataclasses import dataclass

from s3ml.keyservice.documents import Contribution, ContributionRequest, Mismatch, RecoveryRequest, Share
from s3ml.keyservice.documents.recovery import SEALED_LIMIT_BYTES
from s3ml.keyservice.errors import ConflictError, RefusedError, mismatch
from s3ml.keyservice.escrow.binding import contribution_info, request_binding, request_id
from s3ml.keyservice.escrow.shares import ReadSet, doubt_share, piece_of
from s3ml.keyservice.escrow.splitting import Piece, PieceRejectedError, combine
from s3ml.keyservice.parsing import parse_document
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke import HYBRID_AES256, PrivateKey, open_once

CheckKey = Callable[[SecretBytes], "Findings"]
TakeKey = Callable[[SecretBytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a wrapping key opens of what is stored.

    Args:
        opened: How many secrets it opens.
        failed: Those that it does not open.
    """

    opened: int
    failed: tuple[Mismatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a request is; says nothing that is secret.

    Args:
        threshold: How many shares are needed.
        contributed: Whose are here, by name, in the order of the set.
        missing: How many more are needed.
    """

    threshold: int
    contributed: tuple[str, ...]
    missing: int

    @property
    def is_complete(self) -> bool:
        """Whether the shares are enough."""
        return self.missing == 0


class Collector:
    """Gathers the shares that one request asked for.

    Not for concurrent use.

    Args:
        request: Made in this process; its evidence is not looked at.
        key: The private half of its key; it is held here alone.
        share_set: The set that the request names, with the deployment's signature verified.

    Raises:
        ConfigurationError: the request names another set.
    """

    def __init__(self, *, request: RecoveryRequest, key: PrivateKey, share_set: ReadSet) -> None:
        if request.share_set != share_set.sha256 or request.deployment != share_set.document.deployment:
            raise ConfigurationError("recovery: expected the share set that the request names")
        report_data = request_binding(request).report_data()
        self.purpose = request.purpose
        self.request_id = request_id(report_data)
        self._info = contribution_info(request.purpose, report_data)
        self._key: PrivateKey | None = key
        self._set = share_set
        self._pieces: dict[int, Piece] = {}

    @property
    def progress(self) -> Progress:
        """How far this is."""
        threshold = self._set.outline.threshold
        return Progress(
            threshold=threshold,
            contributed=tuple(self._set.holder(index) for index in sorted(self._pieces)),
            missing=max(0, threshold - len(self._pieces)),
        )

    def add(self, contribution: ContributionRequest) -> Progress:
        """Take the shares of a contribution, all or none of them.

        1. It is for this request, which still takes any.
        2. It is sealed to this request's key, for this request's purpose.
        3. Each share is of the request's set, and is the very one that was made.

        A share that is here already is verified like any other and counts once.

        Args:
            contribution: From an untrusted peer.

        Raises:
            ConflictError: (1) fails.
            RefusedError: (2) or (3) fails; all mismatches are listed, by number and holder.
            DocumentMalformedError: what was sealed is no contribution.
        """
        if contribution.request != self.request_id:  # (1)
            raise ConflictError(
                f"contribution: is for request {contribution.request}, not for {self.request_id}: "
                "contribute to the request that is open"
            )
        shares = self._open(contribution.sealed)  # (2)
        failed = [one for share in shares for one in doubt_share(share, self._set)]  # (3)
        if failed:
            raise RefusedError("contribution", failed)
        self._pieces |= {share.index: piece_of(share) for share in shares}
        return self.progress

    def hand_over(self, take: TakeKey) -> None:
        """Hand the wrapping key to `take`, once; where `take` is unavailable, this can be tried again.

        Args:
            take: Keeps the key, or raises.

        Raises:
            ConfigurationError: the purpose is a rehearsal, which gives nothing out.
            ConflictError: shares are missing, or the key was handed over before.
            PieceRejectedError: the set was not made of one key; nothing is given out.
            UnavailableError: of `take`; nothing is forgotten.
            S3MLError: of `take`; the request is over.
        """
        if self.purpose != "recovery":
            raise ConfigurationError("rehearsal: expected a recovery, which alone gives the wrapping key out")
        wrapping_key = self._combine()
        try:
            take(wrapping_key)
        except UnavailableError:
            raise
        except S3MLError:
            self.close()
            raise
        self.close()

    def rehearse(self, check: CheckKey) -> Findings:
        """Try what the shares give back, once, and let go of it.

        Args:
            check: Tells what a wrapping key opens; keeps nothing of it.

        Raises:
            ConfigurationError: the purpose is recovery.
            ConflictError: shares are missing, or this was done before.
            PieceRejectedError: the set was not made of one key.
        """
        if self.purpose != "rehearsal":
            raise ConfigurationError("recovery: expected a rehearsal, which alone has findings")
        wrapping_key = self._combine()
        try:
            return check(wrapping_key)
        finally:
            wrapping_key.wipe()
            self.close()

    def close(self) -> None:
        """Forget the key and every share."""
        self._key = None
        for piece in self._pieces.values():
            piece.value.wipe()
        self._pieces.clear()

    def _combine(self) -> SecretBytes:
        progress = self.progress
        if self._key is None or not progress.is_complete:
            raise ConflictError(f"recovery: expected {progress.missing} more share(s), or another request")
        try:
            return combine(self._set.outline, tuple(self._pieces.values()), context=self._set.context)
        except PieceRejectedError:
            self.close()
            raise

    def _open(self, sealed: bytes) -> tuple[Share, ...]:
        if self._key is None:
            raise ConflictError("contribution: its request is over: ask for another")
        try:
            plaintext = open_once(HYBRID_AES256, self._key, sealed, info=self._info)
        except SealRejectedError:
            expected = f"sealed to this request's key, for a {self.purpose}"
            raise RefusedError("contribution", [mismatch("seal", expected=expected, got="another")]) from None
        return parse_document(
            plaintext, Contribution, what="contribution", limit_bytes=SEALED_LIMIT_BYTES
        ).shares
