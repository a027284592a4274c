"""Releases from the key service: challenge, evidence, secrets."""

import random
from collections.abc import Sequence

from s3ml.attestation import Attester
from s3ml.keyservice.client import KeyServiceClient, KeyServiceRefusedError, ReleaseSession
from s3ml.keyservice.documents import Release
from s3ml.modelserver.enrolment import ServiceAbsentError
from s3ml.primitives.errors import S3MLError, UnavailableError

REQUEST_TIMEOUT_S = 10.0
_NOT_FOUND = 404
_SHUFFLE = random.SystemRandom().shuffle


class KeyServiceReleases:
    """Attests to one of a key service's replicas, and holds on to the deployment that answered first.

    A challenge is answered to the replica that made it. The next is asked where one does not serve.

    Args:
        urls: Base URLs of the key service's replicas, at least one; addresses, never trust.
        service: The service whose keys to ask for.
        attester: The TEE that this code runs in.
    """

    __slots__ = ("_clients", "_session")

    def __init__(self, urls: Sequence[str], service: str, attester: Attester) -> None:
        self._clients = [KeyServiceClient(url, timeout_s=REQUEST_TIMEOUT_S) for url in urls]
        _SHUFFLE(self._clients)
        self._session = ReleaseSession(service, attester)

    def fetch(self) -> Release:
        """Attest, and return a fresh and verified release; blocking.

        Raises:
            KeyServiceUnavailableError: it does not answer, or not now.
            KeyServiceRefusedError: it refused this code; `.mismatches` says why.
            UntrustedPeerError: its reply does not verify, or is another deployment's.
            ServiceAbsentError: there is no such deployment or service yet.
        """
        failures: list[S3MLError] = []
        for client in list(self._clients):
            try:
                return self._fetch(client)
            except S3MLError as error:
                failures.append(error)
                self._clients.append(self._clients.pop(0))
        raise next((e for e in failures if not isinstance(e, UnavailableError)), failures[0])

    def _fetch(self, client: KeyServiceClient) -> Release:
        try:
            challenge = client.challenge(self._session.challenge_request())
        except KeyServiceRefusedError as error:
            if error.status == _NOT_FOUND:
                raise ServiceAbsentError(str(error)) from error
            raise
        reply = client.release(self._session.answer(challenge))
        return self._session.open(reply).release
