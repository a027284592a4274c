"""What all documents have in common."""

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all documents have in common: frozen, named fields, nothing unknown."""
