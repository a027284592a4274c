"""The settings that every server of this project has."""

from s3ml.listening import http_config
from s3ml.listening.connections import ConnectionGuard


class TestProtocol:
    def test_a_guard_without_connections_is_taken_all_the_same(self) -> None:
        guard = ConnectionGuard()
        config = http_config(grace_s=1, protocol=guard)
        config.load()
        assert config.http_protocol_class is guard

    def test_uvicorns_own_where_none_is_given(self) -> None:
        assert http_config(grace_s=1).http == "httptools"
