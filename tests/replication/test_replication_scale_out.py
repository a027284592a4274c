"""Forty model servers start at once, and three replicas give all of them their keys."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from s3ml.keyservice.documents import Release
from s3ml.modelserver.releases import KeyServiceReleases
from tests.client.real_key_service import InProcessAttester
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import Platform, eventually
from tests.replication.people import MODEL_PKI, MODEL_SERVER_CODE, SERVICE
from tests.replication.settings import Setting, begun

pytestmark = pytest.mark.integration
MODEL_SERVERS = 40


@pytest.fixture(scope="module")
def setting(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Three replicas and three witnesses."""
    with begun(platform, postgres, replicas=3, witnesses=3) as found:
        yield found


class TestScaleOut:
    """All have the same keys, and every release is in the log."""

    def test_forty_at_once(self, setting: Setting) -> None:
        urls = [member.url for member in setting.fleet.members]
        together = Barrier(MODEL_SERVERS)
        audited = int(str(setting.fleet.run("SELECT count(*) FROM s3ml_audit")[0][0]))

        def fetch(_: int) -> Release:
            releases = KeyServiceReleases(urls, SERVICE, InProcessAttester(MODEL_PKI, MODEL_SERVER_CODE))
            together.wait()
            return eventually(releases.fetch, what="keys")

        began = time.monotonic()
        with ThreadPoolExecutor(MODEL_SERVERS) as threads:
            found = list(threads.map(fetch, range(MODEL_SERVERS)))
        took_s = time.monotonic() - began
        print(f"{MODEL_SERVERS} model servers had their keys in {took_s:.2f} s")  # noqa: T201 - a figure
        assert {release.epochs for release in found} == {found[0].epochs}
        setting.fleet.stop()  # which writes the records that waited
        after = int(str(setting.fleet.run("SELECT count(*) FROM s3ml_audit")[0][0]))
        assert after >= audited + MODEL_SERVERS
