"""The way to a key service over HTTP, blocking; it is trusted with nothing.

Replies are read up to a limit and parsed into exact types; nothing in them is verified here.
"""

from s3ml.keyservice.client.exchange import Exchange
from s3ml.keyservice.documents import (
    AcknowledgeReply,
    AuditReply,
    AuthorityReply,
    ChallengeReply,
    ChallengeRequest,
    ContributionRequest,
    ControlMessage,
    ControlReply,
    DeploymentReply,
    EntriesReply,
    GenesisReply,
    GenesisRequest,
    RecoveryAsk,
    RecoveryRequestReply,
    RecoverySharesReply,
    RecoveryStatusReply,
    ReleaseReply,
    ReleaseRequest,
    RequestStatus,
    ResourcesReply,
    StatusReply,
    TrustBundleRequest,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope

DEFAULT_TIMEOUT_S = 30.0


class KeyServiceClient:
    """Talk to the key service at a URL; safe to use from several threads.

    Every method raises what `Exchange.send` raises.

    Args:
        url: Up to before ``/v1``, such as ``http://127.0.0.1:8080/keyservice``.
        timeout_s: For a whole exchange, in seconds.
    """

    def __init__(self, url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._exchange = Exchange(url, timeout_s)

    def deployment(self) -> DeploymentReply:
        """Ask where the key service stands."""
        return self._exchange.get("/v1/deployment", DeploymentReply)

    def status(self) -> StatusReply:
        """Ask how the whole key service does, as one replica sees it."""
        return self._exchange.get("/v1/status", StatusReply)

    def authority(self) -> AuthorityReply:
        """Read how the deployment came to be governed as it is, for `follow`."""
        return self._exchange.get("/v1/authority", AuthorityReply)

    def acknowledge(self, acknowledgement: Envelope) -> AcknowledgeReply:
        """Let a recovering replica serve, by the word of k of n owners."""
        return self._exchange.post("/v1/acknowledge", acknowledgement, AcknowledgeReply)

    def resources(self) -> ResourcesReply:
        """List the governed resources."""
        return self._exchange.get("/v1/resources", ResourcesReply)

    def entries(self, start: int, end: int) -> EntriesReply:
        """Read log entries from index `start` up to before `end`; possibly fewer."""
        return self._exchange.get(f"/v1/entries?start={start}&end={end}", EntriesReply)

    def audit(self, start: int, end: int) -> AuditReply:
        """Read audit records from index `start` up to before `end`; possibly fewer."""
        return self._exchange.get(f"/v1/audit?start={start}&end={end}", AuditReply)

    def checkpoint(self) -> str:
        """Read the newest checkpoint, a signed note."""
        return self._exchange.send("GET", "/v1/checkpoint").decode(errors="replace")

    def genesis(self, request: GenesisRequest) -> GenesisReply:
        """Begin a deployment."""
        return self._exchange.post("/v1/genesis", request, GenesisReply)

    def control(self, message: ControlMessage) -> ControlReply:
        """Change a resource."""
        return self._exchange.post("/v1/control", message, ControlReply)

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Ask for a challenge."""
        return self._exchange.post("/v1/challenge", request, ChallengeReply)

    def release(self, request: ReleaseRequest) -> ReleaseReply:
        """Ask for a release."""
        return self._exchange.post("/v1/release", request, ReleaseReply)

    def trust_bundle(self, request: TrustBundleRequest) -> bytes:
        """Ask for a trust bundle, for `verify_trust_bundle`."""
        return self._exchange.send("POST", "/v1/trust-bundle", encode_document(request))

    def recovery_shares(self) -> RecoverySharesReply:
        """Read the newest shares of the wrapping key, each encrypted to its holder."""
        return self._exchange.get("/v1/recovery/shares", RecoverySharesReply)

    def recovery_request(self, ask: RecoveryAsk) -> RecoveryRequestReply:
        """Ask a replica to ask for shares."""
        return self._exchange.post("/v1/recovery/request", ask, RecoveryRequestReply)

    def recovery_contribution(self, contribution: ContributionRequest) -> RequestStatus:
        """Hand sealed shares to the replica that asked for them."""
        return self._exchange.post("/v1/recovery/contribution", contribution, RequestStatus)

    def recovery_status(self) -> RecoveryStatusReply:
        """Ask a replica how far its requests for shares are."""
        return self._exchange.get("/v1/recovery/status", RecoveryStatusReply)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()
