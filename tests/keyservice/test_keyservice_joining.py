"""A replica gets the secrets of a deployment from another one, each sure of the other."""

import hashlib

from s3ml.attestation import VerdictCache, encode_policy
from s3ml.keyservice.joining import JoinSession, JoinSource, Reading, ServingStanding, verify_joiner
from s3ml.keyservice.log import origin
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, KEY_SERVICE_POLICY, NOW, InProcessAttester

DEPLOYMENT = hashlib.sha256(b"deployment").hexdigest()
CHECKPOINT_KEY = SigningKey.from_raw(bytes([7]) * 32)


def test_the_way() -> None:
    attester = InProcessAttester(KEY_SERVICE_CODE)
    head = Checkpoint(origin=origin(DEPLOYMENT), size=3, root=bytes(32))
    standing = ServingStanding(
        deployment=DEPLOYMENT,
        policy_document=encode_policy(KEY_SERVICE_POLICY),
        log_size=3,
        log_root=bytes(32),
        checkpoint=sign_checkpoint(head, CHECKPOINT_KEY),
    )
    reading = Reading(
        deployment=DEPLOYMENT,
        policy_document=encode_policy(KEY_SERVICE_POLICY),
        size=3,
        committed_size=3,
        root_of=lambda _: bytes(32),
        open_checkpoint=lambda note: open_checkpoint(
            note, origin=origin(DEPLOYMENT), key=CHECKPOINT_KEY.public
        ),
    )
    source = JoinSource(now_s=0.0)
    session = JoinSession(DEPLOYMENT, attester.quote, now_s=0.0)
    offer = source.offer(session.hello(), standing=standing, now_s=0.0)
    taken = source.take(session.answer(offer, reading, now_s=0.0), now_s=0.0)
    joiner = verify_joiner(taken, standing=standing, now=NOW, cache=VerdictCache())
    sealed = source.seal(joiner, SecretBytes(b"keys"), standing=standing, now_s=0.0)
    reply = sealed.reply(attester.quote(sealed.report_data))
    opened = session.open(reply, now=NOW, now_s=0.0, cache=VerdictCache())
    assert opened.secrets.reveal() == b"keys"
