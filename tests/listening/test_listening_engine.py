"""The settings that every server of this project has."""

from s3ml.listening import http_config
from s3ml.listening.connections import ConnectionGuard


class TestProtocol:
    def test_a_guard_without_connections_is_taken_all_the_same(self) -> None:
        guard = ConnectionGuard()
        config = http_config(grace_s=1, protocol=guard)
        config.load()
        protocol: object = config.http_protocol_class
        assert protocol is guard

    def test_there_is_a_guard_where_none_is_given(self) -> None:
        protocol: object = http_config(grace_s=1, connections=100).http
        assert isinstance(protocol, ConnectionGuard)
        assert protocol.limits.connections == 99
