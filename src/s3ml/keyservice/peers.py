"""Other replicas over HTTP: asked where they stand, and for the secrets that they hold.

Source: docs/spec/join.md, "Over HTTP".
"""

import random
from collections.abc import Callable, MutableSequence, Sequence

from s3ml.attestation import VerdictCache
from s3ml.keyservice.client.exchange import Exchange, KeyServiceRefusedError
from s3ml.keyservice.documents import DeploymentReply
from s3ml.keyservice.documents.joining import (
    JOIN_OFFER_LIMIT_BYTES,
    JOIN_REPLY_LIMIT_BYTES,
    JoinHello,
    JoinOffer,
    JoinReply,
    JoinRequest,
)
from s3ml.keyservice.errors import ConflictError
from s3ml.keyservice.joining import JoinSession, OpenedJoin, Reading
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError, UnavailableError, UntrustedPeerError

DEFAULT_TIMEOUT_S = 10.0
OFFER_PATH = "/v1/join/offer"
JOIN_PATH = "/v1/join"
_CONFLICT = 409
_REASON_LIMIT = 400
_SHUFFLE = random.SystemRandom().shuffle


class NoSourceError(UnavailableError):
    """No peer serves at present; one that does not now may later."""


class UntrustedSourcesError(UntrustedPeerError):
    """Every peer failed a check, or refused this replica: trying again changes nothing."""


class PeerClient:
    """Talk to another replica; safe to use from several threads.

    Every method raises `KeyServiceUnavailableError` where it does not answer in time or asks to come again,
    `KeyServiceRefusedError` where it refuses, and `DocumentMalformedError` or `UntrustedPeerError` where its
    reply is none.

    Args:
        url: Up to before ``/v1``; another replica's, not that of a gateway before many.
        timeout_s: For a whole exchange, in seconds.
    """

    def __init__(self, url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._exchange = Exchange(url, timeout_s)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._exchange.url

    def standing(self) -> DeploymentReply:
        """Ask where it stands."""
        return self._exchange.get("/v1/deployment", DeploymentReply)

    def join_offer(self, hello: JoinHello) -> JoinOffer:
        """Ask for an offer to join."""
        return self._exchange.post(OFFER_PATH, hello, JoinOffer, limit_bytes=JOIN_OFFER_LIMIT_BYTES)

    def join(self, request: JoinRequest) -> JoinReply:
        """Ask for the secrets."""
        return self._exchange.post(JOIN_PATH, request, JoinReply, limit_bytes=JOIN_REPLY_LIMIT_BYTES)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()


def find_source(
    peers: Sequence[PeerClient],
    begin: Callable[[], JoinSession],
    read: Callable[[int], Reading],
    *,
    clock: Clock,
    cache: VerdictCache,
    shuffle: Callable[[MutableSequence[PeerClient]], None] = _SHUFFLE,
) -> OpenedJoin:
    """Join with the first of `peers`, in random order, that serves and holds every check; blocks.

    Args:
        peers: From the host's settings; untrusted.
        begin: Makes a fresh session for each of them.
        read: Reads this replica's log on to at least that many entries where storage has them, and returns
            the whole reading.
        clock: Held in check.
        cache: What earlier verifications proved.
        shuffle: Puts the peers in order.

    Raises:
        NoSourceError: none serves; at least one may later.
        UntrustedSourcesError: each failed a check, or refused this replica.
    """
    if not peers:
        raise NoSourceError("join: expected the address of at least one other replica, got none")
    errors: list[S3MLError] = []
    reasons: list[str] = []
    ordered = list(peers)
    shuffle(ordered)
    for peer in ordered:
        try:
            return _join(peer, begin(), read, clock=clock, cache=cache)
        except S3MLError as error:
            errors.append(error)
            reasons.append(f"{peer.url}: {str(error)[:_REASON_LIMIT]}".replace("\n", " "))
    line = f"join: none of {len(peers)} peers is a source: {'; '.join(reasons)}"
    if any(_may_pass(error) for error in errors):
        waits = [e.retry_after_s for e in errors if isinstance(e, UnavailableError) and e.retry_after_s]
        raise NoSourceError(line, retry_after_s=min(waits, default=None))
    raise UntrustedSourcesError(line)


def _join(
    peer: PeerClient,
    session: JoinSession,
    read: Callable[[int], Reading],
    *,
    clock: Clock,
    cache: VerdictCache,
) -> OpenedJoin:
    offer = peer.join_offer(session.hello())
    request = session.answer(offer, read(offer.log_size), now_s=clock.monotonic_s())
    reply = peer.join(request)
    return session.open(reply, now=clock.now(), now_s=clock.monotonic_s(), cache=cache)


def _may_pass(error: S3MLError) -> bool:
    if isinstance(error, KeyServiceRefusedError):
        return error.status == _CONFLICT
    return isinstance(error, UnavailableError | ConflictError)
