"""Entries: each field that chains them."""

from datetime import timedelta

import msgspec
import pytest

from s3ml.keyservice.documents import DeploymentKeys, GenesisEntry, LogEntry, ReleasesEntry
from s3ml.keyservice.genesis import identify_genesis
from s3ml.keyservice.log import Chain, LogTamperedError, deployment_id
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from tests.clocks import NOW
from tests.keyservice.keyservice_world import signed_proposal

KEYS = DeploymentKeys(
    checkpoint=str(SigningKey.generate().public),
    statement=str(SigningKey.generate().public),
    intake_kem=25722,
    intake=bytes(1216),
)
GENESIS = GenesisEntry(proposal=signed_proposal(), keys=KEYS)
BATCH = ReleasesEntry(first=0, count=1, sha256="ab" * 32)


def begun() -> Chain:
    chain = Chain()
    chain.append(chain.build(GENESIS, time=NOW).data)
    return chain


def changed(**fields: object) -> bytes:
    entry = begun().build(BATCH, time=NOW).entry
    return encode_document(msgspec.structs.replace(entry, **fields))


class TestChain:
    def test_an_entry_continues_the_one_before(self) -> None:
        chain = begun()
        assert chain.append(chain.build(BATCH, time=NOW).data).index == 1

    @pytest.mark.parametrize(
        "data",
        [
            changed(index=0),
            changed(index=2),
            changed(previous="00" * 32),
            changed(deployment="00" * 32),
            changed(deployment=""),
            changed(body=GENESIS),
            changed(time=NOW - timedelta(seconds=1)),
        ],
    )
    def test_anything_else_is_tampering(self, data: bytes) -> None:
        with pytest.raises(LogTamperedError):
            begun().append(data)

    def test_a_log_begins_with_genesis(self) -> None:
        with pytest.raises(LogTamperedError, match="yet to be made"):
            Chain().append(Chain().build(BATCH, time=NOW).data)

    def test_rollback_forgets_the_deployment_too(self) -> None:
        chain = Chain()
        mark = chain.mark()
        chain.append(chain.build(GENESIS, time=NOW).data)
        chain.rollback(mark)
        assert (chain.size, chain.deployment) == (0, "")


class TestDeploymentId:
    def test_it_is_the_hash_of_the_delivered_bytes(self) -> None:
        data = Chain().build(GENESIS, time=NOW).data
        assert identify_genesis(data).deployment == tagged_sha256("S3ML deployment v1", data).hex()
        assert deployment_id(data + b" ") != deployment_id(data)

    @pytest.mark.parametrize(
        "entry",
        [
            LogEntry(index=0, previous="0" * 64, deployment="", time=NOW, body=BATCH),
            LogEntry(index=1, previous="0" * 64, deployment="", time=NOW, body=GENESIS),
            LogEntry(index=0, previous="1" * 64, deployment="", time=NOW, body=GENESIS),
            LogEntry(index=0, previous="0" * 64, deployment="1" * 64, time=NOW, body=GENESIS),
        ],
    )
    def test_only_a_first_entry_identifies_one(self, entry: LogEntry) -> None:
        with pytest.raises(ConfigurationError, match="first entry"):
            identify_genesis(encode_document(entry))
