"""What can be wrong with a bundle that somebody else stored."""

from s3ml.primitives.errors import UntrustedPeerError


class BundleMalformedError(UntrustedPeerError):
    """The bytes are no bundle: truncated, or not in the one form that a bundle has."""


class BundleRejectedError(UntrustedPeerError):
    """The bundle is not the one that was promised, does not open, or exceeds a limit."""
