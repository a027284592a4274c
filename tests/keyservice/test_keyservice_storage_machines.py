"""PostgreSQL with a full disk, old data, clients cut off, and reached over TLS."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from s3ml.keyservice.storage import Commit, Head, StorageUnavailableError, open_storage
from s3ml.keyservice.storage.postgresql import PostgreSQLStorage
from tests.keyservice.postgres_server import (
    PostgresServer,
    has_capability,
    running,
    served,
    server_folder,
    unprivileged,
)
from tests.keyservice.test_keyservice_storage import FIRST, SECOND, everything
from tests.keyservice.test_keyservice_storage_faults import SHORT
from tests.ports import claim_port

needs_mounts = pytest.mark.skipif(
    not has_capability(21),
    reason="mounting a small disk needs CAP_SYS_ADMIN; errors of the server are tested",
)
needs_networks = pytest.mark.skipif(
    not (has_capability(12) and has_capability(21)),
    reason="network namespaces need CAP_NET_ADMIN; a proxy that swallows everything is tested",
)
BIG_BYTES = 4 * 2**20


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def grow(folder: Path, mebibytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={mebibytes}m", folder], check=True)


def fill(storage: PostgreSQLStorage) -> int:
    """Append large entries until the store refuses one; return how many it took."""
    for taken in itertools.count():
        try:
            append_big(storage, taken)
        except StorageUnavailableError:
            return taken
    raise AssertionError


def append_big(storage: PostgreSQLStorage, size: int) -> None:
    head = Head(size=size + 1, checkpoint="", seal=b"")
    storage.append(Commit(expected_size=size, entries=(os.urandom(BIG_BYTES),), head=head))


@needs_mounts
class TestAFullDisk:
    """Nothing acknowledged is lost, nothing is stored in part, and once there is room it goes on."""

    def test_of_the_tables(self) -> None:
        """The server reports it, and goes on."""
        with server_folder() as folder, small_disk(folder, 24):
            user = unprivileged()
            os.chown(folder, user.get("user", -1), user.get("group", -1))
            with running() as server, PostgreSQLStorage(server.url()) as storage:
                server.run(f"CREATE TABLESPACE small LOCATION '{folder}'")
                server.run("ALTER TABLE s3ml_log SET TABLESPACE small")
                taken = fill(storage)
                assert taken > 0
                with pytest.raises(StorageUnavailableError, match=r"DiskFull \(SQLSTATE 53100\)"):
                    append_big(storage, taken)
                assert (storage.head() or FIRST.head).size == len(storage.entries(0, 99)) == taken
                grow(folder, 64)
                append_big(storage, taken)
                assert len(storage.entries(0, 99)) == taken + 1

    def test_of_everything(self) -> None:
        """The server's own log does not fit: it goes down, and comes back with all that it acknowledged."""
        with ExitStack() as stack:
            folder = stack.enter_context(server_folder())
            stack.enter_context(small_disk(folder, 110))
            server = PostgresServer(
                folder, {"wal_recycle": "off", "min_wal_size": "32MB", "max_wal_size": "32MB"}
            )
            stack.callback(server.kill)
            server.start()
            storage = stack.enter_context(PostgreSQLStorage(server.url()))
            taken = fill(storage)
            assert taken > 0
            server.kill()
            grow(folder, 400)
            server.start()
            head, _ = served(storage.heads)
            assert head is not None
            assert head.size in (taken, taken + 1)
            assert len(storage.entries(0, head.size)) == min(head.size, 16)
            append_big(storage, head.size)


class TestAnOldBackup:
    """Storage serves what it is given; that it is old is found out above it, by seals and witnesses."""

    def test_it_is_served(self) -> None:
        with running() as server, PostgreSQLStorage(server.url(), timeouts=SHORT) as storage:
            storage.append(FIRST)
            before = everything(storage)
            server.stop()
            shutil.copytree(server.data, server.folder / "backup")
            server.start()
            served(storage.heads)
            storage.append(SECOND)
            server.stop()
            shutil.rmtree(server.data)
            (server.folder / "backup").rename(server.data)
            if user := unprivileged():
                for path in (server.data, *server.data.rglob("*")):
                    os.chown(path, user["user"], user["group"])
            server.start()
            assert served(lambda: everything(storage)) == before
            storage.append(SECOND)


CLIENT = """
import sys
from s3ml.keyservice.storage import Commit, Head, HeadMovedError, OutcomeUnknownError
from s3ml.keyservice.storage import StorageUnavailableError
from s3ml.keyservice.storage.postgresql import PostgreSQLStorage, Timeouts
limits = Timeouts(connect_s=1, checkout_s=1.0, statement_s=0.5, reply_s=1.0)
with PostgreSQLStorage(sys.argv[1], timeouts=limits) as storage:
    print("up", flush=True)
    for line in sys.stdin:
        size = int(line)
        head = Head(size=size + 1, checkpoint=sys.argv[2], seal=b"")
        try:
            storage.append(Commit(expected_size=size, entries=(sys.argv[2].encode(),), head=head))
            print("stored", flush=True)
        except (HeadMovedError, StorageUnavailableError) as error:
            print(type(error).__name__, flush=True)
"""


class Client:
    """A replica's storage in a network namespace of its own."""

    def __init__(self, namespace: str, url: str, name: str) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-c", CLIENT, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.told() == "up"

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def append(self, size: int) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()
        return self.told()

    def close(self) -> None:
        self.process.communicate("")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def networks() -> Iterator[dict[str, str]]:
    """Make a namespace for a server and two for clients, each with a cable of its own to the server."""
    tag = f"s3ml{os.getpid()}"
    names = {"server": f"{tag}s", "one": f"{tag}a", "two": f"{tag}b"}
    with ExitStack() as stack:
        for name in names.values():
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        for number, client in enumerate(("one", "two"), start=1):
            here, there = names["server"], names[client]
            ip(
                "-n",
                here,
                "link",
                "add",
                f"to{client}",
                "type",
                "veth",
                "peer",
                "name",
                "cable",
                "netns",
                there,
            )
            for namespace, link, last in ((here, f"to{client}", 1), (there, "cable", 2)):
                ip("-n", namespace, "addr", "add", f"10.77.{number}.{last}/24", "dev", link)
                ip("-n", namespace, "link", "set", link, "up")
        yield names


@needs_networks
class TestAPartition:
    """Two replicas, of which the network reaches one: the other says so in bounded time, and recovers."""

    def test_the_one_that_is_reached_goes_on(self) -> None:
        with ExitStack() as stack:
            names = stack.enter_context(networks())
            folder = stack.enter_context(server_folder())
            server = PostgresServer(folder, namespace=names["server"], host="10.77.1.1,10.77.2.1")
            with (server.data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 10.77.0.0/16 trust\n")
            stack.callback(server.stop)
            server.start()
            clients = []
            for number, name in enumerate(("one", "two"), start=1):
                url = f"postgresql://s3ml@10.77.{number}.1/postgres"
                clients.append(Client(names[name], url, name))
                stack.callback(clients[-1].close)
            one, two = clients
            assert [one.append(0), two.append(1)] == ["stored", "stored"]
            ip("-n", names["server"], "link", "set", "toone", "down")
            assert one.append(2) == "OutcomeUnknownError"
            assert two.append(2) == "stored"
            assert one.append(3) == "StorageUnavailableError"
            ip("-n", names["server"], "link", "set", "toone", "up")
            tries = (one.append(2) for _ in range(30))  # each waits a second for the network by itself
            assert next(told for told in tries if told != "StorageUnavailableError") == "HeadMovedError"
            assert [one.append(3), two.append(4)] == ["stored", "stored"]
            with PostgreSQLStorage(server.url()) as storage:
                assert storage.entries(0, 9) == [b"one", b"two", b"two", b"one", b"two"]


def certificate(folder: Path) -> None:
    """Write a key and a certificate of its own for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "storage")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "server.key").chmod(0o600)
    if user := unprivileged():
        os.chown(folder / "server.key", user["user"], user["group"])


class TestTLS:
    """What the URL says of TLS reaches the driver."""

    def test_a_server_is_verified(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        certificate(tmp_path / "other")
        with server_folder() as folder:
            server = PostgresServer(folder, {"ssl": "on", "port": str(claim_port())}, host="127.0.0.1")
            certificate(server.data)
            server.start()
            try:
                base = f"postgresql://s3ml@127.0.0.1:{server.settings['port']}/postgres?sslmode=verify-full"
                with PostgreSQLStorage(f"{base}&sslrootcert={server.data}/server.crt") as storage:
                    storage.append(FIRST)
                    with storage._sessions.session() as session:
                        assert session.pgconn.ssl_in_use
                with pytest.raises(StorageUnavailableError, match="certificate verify failed"):
                    open_storage(f"{base}&sslrootcert={tmp_path}/other/server.crt")
            finally:
                server.stop()
