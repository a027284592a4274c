"""Small forms that every part of Envoy's configuration is written in."""

TYPE = "type.googleapis.com/"
"""Before the name of a message, the URL of its type."""


def seconds(value: float) -> str:
    """Return `value` as protobuf's JSON writes a duration."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
