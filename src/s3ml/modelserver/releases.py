"""Releases from the key service: challenge, evidence, secrets."""

from s3ml.attestation import Attester
from s3ml.keyservice.client import KeyServiceClient, KeyServiceRefusedError, ReleaseSession
from s3ml.keyservice.documents import Release
from s3ml.modelserver.enrolment import ServiceAbsentError

REQUEST_TIMEOUT_S = 10.0
_NOT_FOUND = 404


class KeyServiceReleases:
    """Attests to one key service, and holds on to the deployment that answered first.

    Args:
        url: Base URL of the key service; an address, never trust.
        service: The service whose keys to ask for.
        attester: The TEE that this code runs in.
    """

    __slots__ = ("_client", "_session")

    def __init__(self, url: str, service: str, attester: Attester) -> None:
        self._client = KeyServiceClient(url, timeout_s=REQUEST_TIMEOUT_S)
        self._session = ReleaseSession(service, attester)

    def fetch(self) -> Release:
        """Attest, and return a fresh and verified release; blocking.

        Raises:
            KeyServiceUnavailableError: it does not answer, or not now.
            KeyServiceRefusedError: it refused this code; `.mismatches` says why.
            UntrustedPeerError: its reply does not verify, or is another deployment's.
            ServiceAbsentError: there is no such deployment or service yet.
        """
        try:
            challenge = self._client.challenge(self._session.challenge_request())
        except KeyServiceRefusedError as error:
            if error.status == _NOT_FOUND:
                raise ServiceAbsentError(str(error)) from error
            raise
        reply = self._client.release(self._session.answer(challenge))
        return self._session.open(reply).release
