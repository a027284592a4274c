"""Protocol Buffers in text form, as far as Triton's ``config.pbtxt`` uses it; no schema is known here.

Source: Protocol Buffers, "Text Format Language Specification".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from s3ml.primitives.errors import ConfigurationError

DEPTH_LIMIT = 32

Scalar = str | int | float
Message = dict[str, list["Value"]]
Value = Scalar | Message

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\s*)*(?:
      (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?f?\b)
    | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<mark>[][{}<>:,;])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str
    line: int


def parse_text_proto(text: str) -> Message:
    """Parse a message: for each field the list of its values, in their order.

    Args:
        text: Of at most a few hundred KiB.

    Raises:
        ConfigurationError: it is no such message, or nested deeper than 32; with the line.
    """
    tokens = _tokens(text)
    message, closing = _message(tokens, next(tokens), depth=0)
    if closing.kind != "end":
        raise _unexpected(closing, "a field")
    return message


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        line = text.count("\n", 0, at if match is None else match.start(match.lastgroup or 0)) + 1
        if match is None or match.lastgroup is None:
            raise ConfigurationError(f"line {line}: expected Protocol Buffers in text form")
        kind = match.lastgroup
        yield _Token(kind=kind, text=match[kind], line=line)
        at = match.end()


def _message(tokens: Iterator[_Token], token: _Token, *, depth: int) -> tuple[Message, _Token]:
    """Read fields from `token` on; return them, and the token that is none of theirs."""
    if depth > DEPTH_LIMIT:
        raise ConfigurationError(f"line {token.line}: expected at most {DEPTH_LIMIT} levels")
    message: Message = {}
    while token.kind == "word":
        values = message.setdefault(token.text, [])
        token = next(tokens)
        if token.text == ":" and token.kind == "mark":
            token = next(tokens)
        elif token.text not in _CLOSING and token.text != "[":
            raise _unexpected(token, "a colon or a message")
        if token.kind == "mark" and token.text == "[":
            values.extend(_list(tokens, depth=depth))
        else:
            values.append(_value(tokens, token, depth=depth))
        token = next(tokens)
        if token.kind == "mark" and token.text in ",;":
            token = next(tokens)
    return message, token


def _list(tokens: Iterator[_Token], *, depth: int) -> list[Value]:
    values: list[Value] = []
    token = next(tokens)
    while token.text != "]":
        values.append(_value(tokens, token, depth=depth))
        token = next(tokens)
        if token.text == ",":
            token = next(tokens)
        elif token.text != "]":
            raise _unexpected(token, "a comma or the end of a list")
    return values


def _value(tokens: Iterator[_Token], token: _Token, *, depth: int) -> Value:
    match token.kind:
        case "number":
            number = token.text.removesuffix("f")
            return float(number) if re.search(r"[.eE]", number) else int(number)
        case "word":
            return token.text
        case "text":
            return token.text[1:-1]
        case "mark" if token.text in _CLOSING:
            message, closing = _message(tokens, next(tokens), depth=depth + 1)
            if closing.text != _CLOSING[token.text]:
                raise _unexpected(closing, f"a field or {_CLOSING[token.text]}")
            return message
    raise _unexpected(token, "a value")


def _unexpected(token: _Token, expected: str) -> ConfigurationError:
    got = token.text[:40] or "the end"
    return ConfigurationError(f"line {token.line}: expected {expected}, got {got}")
