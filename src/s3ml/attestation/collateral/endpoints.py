"""Where vendors and their caches answer: addresses, never trust.

What is fetched is signed by the vendor, so that an endpoint can withhold and delay and nothing else. It does
learn which platform is asked about.

Source: Intel SGX PCS API, version 4; Intel PCCS design guide; AMD 57230, chapter 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from s3ml.attestation.collateral.item import Target
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes

INTEL_PCS_URL = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
AMD_KDS_URL = "https://kdsintf.amd.com"

SUBSCRIPTION_KEY_FIELD = "Ocp-Apim-Subscription-Key"
PCCS_PATH = "/sgx/certification/v4"
URL_LIMIT_CHARACTERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelEndpoint:
    """One place that speaks Intel's provisioning API, version 4; made by `pcs` or `pccs`.

    Args:
        url: Up to before ``/sgx/certification/v4``.
        root_crl_url: Where the root's revocation list is.
        subscription_key: Sent to `url` alone, and never shown.
    """

    url: str
    root_crl_url: str
    subscription_key: SecretBytes | None = None

    def target(self, path: str) -> Target:
        """Return where the document at `path` can be had."""
        key = self.subscription_key
        fields = {SUBSCRIPTION_KEY_FIELD: key.reveal().decode("ascii")} if key else {}
        return Target(url=self.url + path, fields=fields)


def pcs(
    url: str = INTEL_PCS_URL,
    *,
    root_crl_url: str = INTEL_ROOT_CRL_URL,
    subscription_key: SecretBytes | None = None,
) -> IntelEndpoint:
    """Return Intel's own service, or a relay of it.

    Args:
        url: An ``http`` or ``https`` address.
        root_crl_url: The root's revocation list, which Intel publishes elsewhere, as DER.
        subscription_key: For addresses that ask for one; Intel's do not for what is fetched here.

    Raises:
        ConfigurationError: no such address, a key that is no visible ASCII, or one for an ``http`` address.
    """
    if subscription_key is not None and not _is_visible(subscription_key.reveal()):
        raise ConfigurationError("PCS: expected a subscription key of visible ASCII characters")
    base = _without_api(check_url(url, what="PCS"))
    if subscription_key is not None and urlsplit(base).scheme != "https":
        raise ConfigurationError("PCS: expected an https address with a subscription key, got an http one")
    return IntelEndpoint(
        url=base,
        root_crl_url=check_url(root_crl_url, what="root CRL"),
        subscription_key=subscription_key,
    )


def pccs(url: str) -> IntelEndpoint:
    """Return a caching service on one's own premises.

    Args:
        url: Such as ``https://localhost:8081``; with ``/sgx/certification/v4`` it means the same.

    Raises:
        ConfigurationError: no such address.
    """
    base = _without_api(check_url(url, what="PCCS"))
    return IntelEndpoint(url=base, root_crl_url=f"{base}{PCCS_PATH}/rootcacrl")


def check_url(url: str, *, what: str) -> str:
    """Return `url` without a final slash when it is an address that may be asked.

    Raises:
        ConfigurationError: another scheme than ``http`` and ``https``, no host, credentials, a query, a
            character that URLs do not have, or more than 1,024 characters.
    """
    expected = f"{what}: expected an address such as https://host:port without credentials and query"
    if len(url) > URL_LIMIT_CHARACTERS or not url.isascii() or not _is_visible(url.encode()) or "\\" in url:
        raise ConfigurationError(expected)
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigurationError(expected) from None
    if not is_address or "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(expected)
    return url.rstrip("/")


def check_urls(urls: Iterable[str], *, what: str) -> tuple[str, ...]:
    """Return every one of `urls` as `check_url` does.

    Raises:
        ConfigurationError: see `check_url`.
    """
    return tuple(check_url(url, what=what) for url in urls)


def origin_of(url: str) -> str:
    """Return scheme, host and port, by which endpoints are told apart."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _without_api(url: str) -> str:
    return url.removesuffix(PCCS_PATH).rstrip("/")


def _is_visible(text: bytes) -> bool:
    return bool(text) and all(ord("!") <= byte <= ord("~") for byte in text)
