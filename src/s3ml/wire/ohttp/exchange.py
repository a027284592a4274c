"""One request and its response, sealed.

The response is sealed under a key that both ends export from the request's context, and that is bound to the
request by its `enc`: nobody without that context makes or reads it.

Source: RFC 9458, sections 4.3 and 4.4.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.errors import SealRejectedError, UnknownKeyError
from s3ml.wire.hpke import Context, Kem, PrivateKey, SenderContext, Suite, setup_recipient, setup_sender
from s3ml.wire.hpke.kdf import expand, extract
from s3ml.wire.hpke.schedule import Cipher, Data, cipher
from s3ml.wire.hpke.suites import NONCE_BYTES, TAG_BYTES
from s3ml.wire.ohttp.configs import KeyConfig

_HEADER_BYTES = 7
_REQUEST_LABEL = b"message/bhttp request\x00"
_RESPONSE_LABEL = b"message/bhttp response"


class OpeningKey(Protocol):
    """A private key with the configuration that was published for it."""

    @property
    def config(self) -> KeyConfig:
        """What clients were given."""
        ...

    @property
    def private_key(self) -> PrivateKey:
        """The private half of the configuration's key."""
        ...


class _ResponseKeys:
    """What both ends derive for the response."""

    __slots__ = ("_context", "_enc", "_nonce_bytes")

    def __init__(self, context: Context, enc: bytes) -> None:
        self._context = context
        self._enc = enc
        self._nonce_bytes = max(NONCE_BYTES, context.suite.aead.key_bytes)

    def _derive(self, response_nonce: bytes) -> tuple[Cipher, bytes]:
        aead = self._context.suite.aead
        secret = self._context.export(_RESPONSE_LABEL, self._nonce_bytes)
        key = extract(self._enc + response_nonce, secret)
        return cipher(aead, expand(key, b"key", aead.key_bytes)), expand(key, b"nonce", NONCE_BYTES)


class ResponseOpener(_ResponseKeys):
    """What a client keeps to open the response to one request."""

    __slots__ = ()

    def open(self, body: Data) -> bytes:
        """Open a response (from an untrusted peer).

        Raises:
            SealRejectedError: it was not made by the one who opened the request, or for another request.
        """
        size = self._nonce_bytes
        if len(body) < size + TAG_BYTES:
            raise SealRejectedError
        view = memoryview(body)
        aead, nonce = self._derive(bytes(view[:size]))
        try:
            return aead.decrypt(nonce, view[size:], None)
        except InvalidTag:
            raise SealRejectedError from None


class ResponseSealer(_ResponseKeys):
    """What a server keeps to seal the response to one request."""

    __slots__ = ()

    def seal(self, plaintext: Data) -> bytes:
        """Seal a response; every call uses a fresh nonce and key."""
        response_nonce = secrets.token_bytes(self._nonce_bytes)
        aead, nonce = self._derive(response_nonce)
        return response_nonce + aead.encrypt(nonce, plaintext, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What a request was sealed to, and what no other request has: both ends know it before its content.

    Args:
        header: Key id, KEM, KDF and AEAD, 7 bytes.
        public_key: The recipient's.
        enc: The encapsulated secret, fresh for each request; replays repeat it.
    """

    header: bytes
    public_key: bytes
    enc: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An opened request.

    Args:
        channel: What it was sealed to.
        plaintext: From an untrusted peer, though sealed.
        sealer: The way back.
    """

    channel: Channel
    plaintext: bytes = field(repr=False)
    sealer: ResponseSealer = field(repr=False)

    @property
    def key_id(self) -> int:
        """The key it was sealed to."""
        return self.channel.header[0]

    @property
    def enc(self) -> bytes:
        """What no other request has; replays repeat it."""
        return self.channel.enc

    def seal_response(self, plaintext: Data) -> bytes:
        """Seal a response for the one who made the request."""
        return self.sealer.seal(plaintext)


class RequestSealer:
    """A request that is about to be sealed: whom to is settled, and its content may say so.

    Seals once.

    Attributes:
        channel: What it will be sealed to.
    """

    __slots__ = ("_context", "channel")

    def __init__(self, channel: Channel, context: SenderContext) -> None:
        self.channel = channel
        self._context = context

    def seal(self, plaintext: Data) -> tuple[bytes, ResponseOpener]:
        """Return the body to send, and what opens the response."""
        body = b"".join((self.channel.header, self.channel.enc, self._context.seal(plaintext)))
        return body, ResponseOpener(self._context, self.channel.enc)


def begin_request(config: KeyConfig, *, suite: Suite | None = None) -> RequestSealer:
    """Draw a fresh secret for the holder of `config`.

    Args:
        config: From somebody who vouches for its holder.
        suite: One of the configuration's; its first, when not given.

    Raises:
        ConfigurationError: `config` does not offer `suite`.
    """
    chosen = config.suites[0] if suite is None else suite
    if chosen not in config.suites:
        raise ConfigurationError("suite: expected one that the key configuration offers")
    header = config.key_id.to_bytes(1, "big") + chosen.suite_id[4:]
    enc, context = setup_sender(chosen, config.public_key, _REQUEST_LABEL + header)
    return RequestSealer(Channel(header=header, public_key=config.public_key, enc=enc), context)


def encapsulate_request(
    config: KeyConfig, plaintext: Data, *, suite: Suite | None = None
) -> tuple[bytes, ResponseOpener]:
    """Seal a request to the holder of `config`.

    Args:
        config: From somebody who vouches for its holder.
        plaintext: A Binary HTTP request.
        suite: One of the configuration's; its first, when not given.

    Returns:
        The body to send, and what opens the response.

    Raises:
        ConfigurationError: `config` does not offer `suite`.
    """
    return begin_request(config, suite=suite).seal(plaintext)


def decapsulate_request(keys: Mapping[int, OpeningKey], body: Data) -> Opened:
    """Open a sealed request.

    Args:
        keys: By key id.
        body: From an untrusted peer; the caller has limited its size.

    Raises:
        UnknownKeyError: no key of that id and KEM, or the key is not used with those algorithms.
        SealRejectedError: the request is truncated, or does not open.
    """
    view = memoryview(body)
    header = bytes(view[:_HEADER_BYTES])
    if len(header) < _HEADER_BYTES:
        raise SealRejectedError
    suite, private_key = _find(keys, header)
    enc_end = _HEADER_BYTES + suite.kem.enc_bytes
    if len(view) < enc_end + TAG_BYTES:
        raise SealRejectedError
    enc = bytes(view[_HEADER_BYTES:enc_end])
    context = setup_recipient(suite, private_key, enc, _REQUEST_LABEL + header)
    plaintext = context.open(view[enc_end:])
    channel = Channel(header=header, public_key=private_key.public, enc=enc)
    return Opened(channel=channel, plaintext=plaintext, sealer=ResponseSealer(context, enc))


def _find(keys: Mapping[int, OpeningKey], header: bytes) -> tuple[Suite, PrivateKey]:
    """Return the key that a request names, and the suite it uses with it."""
    key = keys.get(header[0])
    if key is None:
        raise UnknownKeyError(f"key id: no key has the id {header[0]}")
    algorithms = header[1:]
    for suite in key.config.suites:
        if suite.suite_id[4:] == algorithms:
            return suite, key.private_key
    kem = int.from_bytes(algorithms[:2], "big")
    expected = Kem(key.config.kem).name
    raise UnknownKeyError(
        f"key {header[0]}: expected {expected} and algorithms it offers, got KEM {kem:#06x}"
    )
