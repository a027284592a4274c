"""Getting one item: from memory, from the folder, or from the first endpoint that delivers what was signed.

1. What is at hand and fresh is used.
2. What is past the soft limit is used at once, and asked for anew in the background.
3. What is past its hard limit or its next update is not used: an endpoint delivers a better one, or nobody
   gets anything.
4. Whatever comes from an endpoint or a folder is proved before it counts; what fails is discarded, and the
   next one is asked.
5. An older document never replaces a newer one, by its TCB evaluation data number, then its issue date.
6. However many threads want an item, one of them fetches it.
7. Nobody signs a validator: one that a folder gives back is not used, and an item that no longer serves is
   asked for without conditions.

Source: docs/spec/collateral.md; RFC 5861 for "stale while revalidate".
"""

import logging
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import datetime

import msgspec

from s3ml.attestation.collateral.cache import FolderCache, MemoryCache
from s3ml.attestation.collateral.cooldown import Cooldown
from s3ml.attestation.collateral.freshness import State, explain_expired, judge
from s3ml.attestation.collateral.item import (
    VALIDATOR_LIMIT_CHARACTERS,
    CollateralRejectedError,
    CollateralUnavailableError,
    Inquiry,
    Item,
    Proven,
    Reply,
    Target,
    encode_item,
    parse_item,
    prove,
    source_of,
)
from s3ml.attestation.collateral.transport import EndpointFailedError, Transport
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError

RETRY_AFTER_S = 1.0
REFRESHES_LIMIT = 16
NEWEST_LIMIT = 4096

_WORKERS = 2
_NOT_MODIFIED = 304
_LOG = logging.getLogger("s3ml.collateral")


class Retriever:
    """Gets items; safe to use from several threads.

    Args:
        transport: Asks the endpoints; closed with this.
        folder: Keeps items between processes; None for memory alone.
        clock: For ages.
        always_ask: Whether to ask the endpoints even for what is fresh; what is at hand then says only what
            was seen before.
    """

    def __init__(
        self, *, transport: Transport, folder: FolderCache | None, clock: Clock, always_ask: bool = False
    ) -> None:
        self._transport = transport
        self._folder = folder
        self._clock = clock
        self._always_ask = always_ask
        self._memory = MemoryCache()
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Proven]] = {}
        self._newest: OrderedDict[str, tuple[int, datetime]] = OrderedDict()
        self._patience = Cooldown(clock)
        self._refreshes = 0
        self._is_closed = False
        self._workers = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="s3ml-collateral")

    def get(self, inquiry: Inquiry) -> Proven:
        """Return the item that `inquiry` asks for.

        Raises:
            CollateralUnavailableError: none is at hand that still serves, and no endpoint delivers one.
        """
        held = self._held(inquiry)
        if held is not None and not self._always_ask:
            state = judge(held, inquiry, self._clock.now())
            if state is State.STALE:  # (2)
                self._refresh(inquiry, held)
            if state is not State.EXPIRED:  # (1)
                return held
        return self._fetch_once(inquiry, held)  # (3)

    def close(self) -> None:
        """End what runs in the background and close the connections; what is at hand still serves."""
        with self._lock:
            self._is_closed = True
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._transport.close()

    def _held(self, inquiry: Inquiry) -> Proven | None:
        """Return what is at hand, proved anew where it comes from the folder."""
        held = self._memory.get(inquiry.name)
        if held is not None or self._folder is None:
            return held
        try:
            data = self._folder.get(inquiry.name)
            if data is None:
                return None
            item = msgspec.structs.replace(
                parse_item(data, name=inquiry.name), etag=None, last_modified=None
            )  # (7)
            held = prove(inquiry, item, self._clock.now())  # (4)
            self._remember(inquiry, held)
        except (CollateralRejectedError, ConfigurationError) as error:
            _warn("discarded", inquiry, "the folder", error)
            newer = self._memory.get(inquiry.name)  # that another thread fetched and stored meanwhile
            if newer is None:
                self._folder.discard(inquiry.name)
            return newer
        return held

    def _refresh(self, inquiry: Inquiry, held: Proven) -> None:
        """Ask for a newer item in the background, unless that is under way or just failed."""
        if self._patience.remaining_s(inquiry.name) > 0:
            return
        with self._lock:
            is_busy = inquiry.name in self._flights or self._refreshes >= REFRESHES_LIMIT
            if is_busy or self._is_closed:
                return
            flight = self._workers.submit(self._fetch, inquiry, held)
            self._flights[inquiry.name] = flight
            self._refreshes += 1
        flight.add_done_callback(lambda done: self._refreshed(inquiry, done))

    def _refreshed(self, inquiry: Inquiry, flight: Future[Proven]) -> None:
        with self._lock:
            self._flights.pop(inquiry.name)
            self._refreshes -= 1
        error = None if flight.cancelled() else flight.exception()
        if error is None:
            self._patience.succeed(inquiry.name)
            return
        self._patience.fail(inquiry.name)
        _warn("not renewed, what is known still holds", inquiry, "all endpoints", error)

    def _fetch_once(self, inquiry: Inquiry, held: Proven | None) -> Proven:
        """Fetch an item, or wait for the thread that does so already."""  # (6)
        with self._lock:
            flight = self._flights.get(inquiry.name)
            is_leader = flight is None
            if flight is None:
                if self._is_closed:
                    raise CollateralUnavailableError(f"{inquiry.what}: this client is closed")
                flight = self._flights[inquiry.name] = Future()
        if not is_leader:
            return _await(inquiry, flight)
        try:
            proven = self._just_fetched(inquiry) or self._fetch(inquiry, held)
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(proven)
            return proven
        finally:
            with self._lock:
                del self._flights[inquiry.name]

    def _just_fetched(self, inquiry: Inquiry) -> Proven | None:
        """Return what another thread fetched between this one's look and its turn."""
        held = None if self._always_ask else self._memory.get(inquiry.name)
        is_usable = held is not None and judge(held, inquiry, self._clock.now()) is not State.EXPIRED
        return held if is_usable else None

    def _fetch(self, inquiry: Inquiry, held: Proven | None) -> Proven:
        """Ask one endpoint after the other; the first that delivers an item that serves now is enough."""
        failures, waits = [], []
        for target in inquiry.targets:
            try:
                proven = self._fetch_from(inquiry, target, held)
            except EndpointFailedError as failure:
                failures.append(f"{source_of(target.url)} {failure}")
                waits.append(failure.retry_after_s or RETRY_AFTER_S)
                continue
            except CollateralRejectedError as rejection:  # (4)
                self._transport.report(target, is_sound=False)
                failures.append(f"{source_of(target.url)} delivered what does not hold: {rejection}")
                waits.append(RETRY_AFTER_S)
                _warn("discarded", inquiry, source_of(target.url), rejection)
                continue
            self._store(inquiry, proven)
            return proven
        told = "; ".join(failures) or "no endpoint is known"
        raise CollateralUnavailableError(
            f"{inquiry.what}: no endpoint delivers it: {told}",
            retry_after_s=min(waits, default=None),
        )

    def _fetch_from(self, inquiry: Inquiry, target: Target, held: Proven | None) -> Proven:
        """Ask one endpoint, and prove what it delivers; no reply of one ends the turn of the next."""
        now = self._clock.now()
        try:
            proven = self._prove_reply(inquiry, target, held, now)
        except (EndpointFailedError, CollateralRejectedError):
            raise
        except Exception as error:
            raise CollateralRejectedError(
                f"expected a reply that can be read and proved, got {type(error).__name__}"
            ) from error
        self._transport.report(target, is_sound=True)
        if judge(proven, inquiry, now) is State.EXPIRED:  # (3)
            raise EndpointFailedError(f"is behind: {explain_expired(proven, inquiry, now)}")
        try:
            self._remember(inquiry, proven)
        except CollateralRejectedError as older:
            raise EndpointFailedError(f"is behind: {older}") from older
        return proven

    def _prove_reply(self, inquiry: Inquiry, target: Target, held: Proven | None, now: datetime) -> Proven:
        reply = self._transport.get(target, validators=_validators(inquiry, target, held, now))
        if reply.status == _NOT_MODIFIED and held is not None:
            item = msgspec.structs.replace(held.item, confirmed_at=now)
        else:
            item = _received(inquiry, reply, now)
        return prove(inquiry, item, now)

    def _remember(self, inquiry: Inquiry, proven: Proven) -> None:
        """Keep an item, unless a newer one has been seen; both in one step, whatever other threads do.

        Raises:
            CollateralRejectedError: a newer one has been seen.
        """  # (5)
        rank = proven.proof.rank
        with self._lock:
            newest = self._newest.get(inquiry.name, rank)
            if rank < newest:
                number, issued_at = newest
                raise CollateralRejectedError(
                    f"expected number {number}, issued {issued_at.isoformat()}, or a newer one, "
                    f"got {rank[0]}, issued {rank[1].isoformat()}"
                )
            self._memory.put(proven)
            if proven.proof.is_ordered:  # no other is ever among the newest
                self._newest[inquiry.name] = rank
                self._newest.move_to_end(inquiry.name)
            while len(self._newest) > NEWEST_LIMIT:
                self._newest.popitem(last=False)

    def _store(self, inquiry: Inquiry, proven: Proven) -> None:
        if self._folder is None:
            return
        try:
            self._folder.put(inquiry.name, encode_item(proven.item))
        except ConfigurationError as error:
            _warn("not kept", inquiry, "the folder", error)


def _await(inquiry: Inquiry, flight: Future[Proven]) -> Proven:
    """Wait for the thread that fetches, whose every request has a deadline."""
    try:
        return flight.result()
    except CancelledError:
        raise CollateralUnavailableError(f"{inquiry.what}: this client is closed") from None


def _validators(inquiry: Inquiry, target: Target, held: Proven | None, now: datetime) -> dict[str, str]:
    """Return the conditions under which this very source needs to send nothing."""
    if held is None or held.item.source != source_of(target.url):
        return {}
    if judge(held, inquiry, now) is State.EXPIRED:  # (7)
        return {}
    fields = {"if-none-match": held.item.etag, "if-modified-since": held.item.last_modified}
    return {name: value for name, value in fields.items() if value is not None and _is_field(value)}


def _received(inquiry: Inquiry, reply: Reply, now: datetime) -> Item:
    content = inquiry.read(reply)
    return Item(
        name=inquiry.name,
        chain=content.chain,
        text=content.text,
        signature=content.signature,
        der=content.der,
        confirmed_at=now,
        source=source_of(reply.url),
        etag=_validator(reply, "etag"),
        last_modified=_validator(reply, "last-modified"),
    )


def _validator(reply: Reply, name: str) -> str | None:
    value = reply.fields.get(name)
    return value if value is not None and _is_field(value) else None


def _is_field(value: str) -> bool:
    return len(value) <= VALIDATOR_LIMIT_CHARACTERS and value.isascii() and value.isprintable()


def _warn(what: str, inquiry: Inquiry, source: str, reason: BaseException) -> None:
    """Log that something is wrong with an item, in fields; nothing in them is secret."""
    _LOG.warning(
        "collateral %(item)s from %(source)s %(what)s: %(reason)s",
        {"item": inquiry.name, "source": source, "what": what, "reason": " ".join(str(reason).split())[:500]},
    )
