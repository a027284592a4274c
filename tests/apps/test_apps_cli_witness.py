"""`s3ml witness`: keys, refusals in one line, and a real process that is killed at every moment."""

import json
import random
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from s3ml.apps.cli.root import run
from s3ml.apps.processes.witness import read_signer
from s3ml.primitives.errors import S3MLError
from s3ml.transparency.cosignature import WitnessKey, verified_cosignatures
from s3ml.transparency.witness.client import (
    WitnessClient,
    WitnessConflictError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from tests.apps.witness_process import DEADLINE_S, Running, prepare, running
from tests.transparency.live_witness import SIGNER, answering, configuration, reply
from tests.transparency.transparency_world import Branch

LOG = Branch()
FORK = Branch("fork", since=1)
DYING = Path(__file__).with_name("dying_witness.py")


def ask(client: WitnessClient, old: int, size: int, branch: Branch = LOG) -> tuple[str, ...]:
    return client.add_checkpoint(old_size=old, proof=branch.proof(old, size), note=branch.note(size))


def known_size(client: WitnessClient) -> int:
    """What a witness says that it knows, asked with a proof that cannot fit."""
    try:
        ask(client, 999, 1000)
    except WitnessConflictError as conflict:
        return conflict.known_size
    raise AssertionError("a witness cosigned from a size that it never knew")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path)
    return tmp_path


class TestKey:
    def test_it_is_secret_and_its_public_half_is_printed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "witness.key"
        assert run(["witness", "key", "witness.example/w1", "-o", str(path)]) == 0
        printed = WitnessKey.parse(capsys.readouterr().out.strip())
        assert read_signer(path).public == printed
        assert WitnessKey.parse((tmp_path / "witness.vkey").read_text().strip()) == printed
        assert path.stat().st_mode & 0o777 == 0o600

    def test_another_is_not_overwritten(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["witness", "key", "w", "-o", str(tmp_path / "witness.key")]
        assert run(words) == 0
        before = (tmp_path / "witness.key").read_text()
        assert run(words) == 2
        assert "exists already" in capsys.readouterr().err
        assert (tmp_path / "witness.key").read_text() == before
        assert run([*words, "--force"]) == 0
        assert (tmp_path / "witness.key").read_text() != before

    def test_a_name_has_no_spaces(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["witness", "key", "a b", "-o", str(tmp_path / "k")]) == 2
        assert "without spaces" in capsys.readouterr().err


class TestServing:
    """Bad input is one line, and nothing is begun by it."""

    @staticmethod
    def serve(folder: Path, *words: str) -> int:
        options = {"--config": "witness.toml", "--key": "witness.key", "--state": "state"}
        given = [part for name, file in options.items() for part in (name, str(folder / file))]
        return run(["witness", "serve", *given, "--listen", "127.0.0.1:0", *words])

    def test_without_a_state(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.serve(folder) == 2
        assert "begin it once with --begin" in capsys.readouterr().err

    @pytest.mark.parametrize("listen", ["", "8081", "host:", ":8081", "h:99999", "h:-1"])
    def test_no_address(self, folder: Path, listen: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.serve(folder, "--begin", "--listen", listen) == 2
        assert "--listen" in capsys.readouterr().err
        assert not (folder / "state").exists()

    def test_an_address_of_another_machine(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.serve(folder, "--begin", "--listen", "192.0.2.1:1") == 2
        assert "cannot listen" in capsys.readouterr().err

    def test_no_key(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "witness.key").write_text(str(SIGNER.public))
        assert self.serve(folder, "--begin") == 2
        assert "witness.key: witness key: expected a line" in capsys.readouterr().err

    def test_no_configuration(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "witness.toml").write_text("version = 1\nlogs = []\n")
        assert self.serve(folder, "--begin") == 2
        assert "unknown field" in capsys.readouterr().err
        assert not (folder / "state").exists()

    def test_without_its_packages(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "s3ml.apps.processes.witness", None)
        assert self.serve(folder, "--begin") == 2
        assert "s3ml[witness]" in capsys.readouterr().err


class TestStatus:
    @pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (200, b"\xff"), (404, b""), (503, b"no")])
    def test_something_else_answers(
        self, status: int, body: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def answer(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(reply(status, body))

        with answering(answer) as url:
            assert run(["witness", "status", "--url", url]) == 4
        assert "s3ml: witness http" in capsys.readouterr().err

    def test_nothing_answers(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["witness", "status", "--url", "http://127.0.0.1:1"]) == 4
        assert "does not answer" in capsys.readouterr().err


@pytest.mark.integration
class TestProcess:
    """A real process: kept before it is answered, whatever ends it."""

    def test_it_serves_reloads_and_ends(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with running(folder, "--begin") as witness:
            client = witness.client()
            assert ask(client, 0, 3)
            assert run(["witness", "status", "--url", witness.url]) == 0
            assert "size 3 at" in " ".join(capsys.readouterr().out.split())
            (folder / "witness.toml").write_text(configuration("other"))
            with pytest.raises(WitnessRefusedError, match="404"):
                ask(client, 3, 5)
            (folder / "witness.toml").write_text("nonsense")
            with pytest.raises(WitnessRefusedError, match="404"):
                ask(client, 3, 5)
            assert run(["witness", "status", "--url", witness.url, "--json"]) == 0
            status = json.loads(capsys.readouterr().out)
            assert not status["is_configuration_usable"]
            assert run(["witness", "status", "--url", witness.url]) == 0
            assert "no longer watched" in " ".join(capsys.readouterr().out.split())
            client.close()
            assert witness.end(signal.SIGTERM) == 0
        assert "configuration-rejected" in [line["event"] for line in witness.told]

    def test_a_hangup_reads_the_configuration_again(self, folder: Path) -> None:
        with running(folder, "--begin") as witness:
            witness.process.send_signal(signal.SIGHUP)
            for _ in range(2000):
                if any(line["event"] == "configured" for line in witness.told):
                    break
                threading.Event().wait(0.01)
            assert witness.told[-1]["event"] == "configured"
            assert witness.end(signal.SIGINT) in {0, 130}

    def test_a_second_one_is_refused(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with running(folder, "--begin"):
            assert TestServing.serve(folder) == 4
        assert "another process uses it" in capsys.readouterr().err

    def test_killed_between_keeping_and_answering(self, folder: Path) -> None:
        """It has kept the head, so it knows it: the same head is cosigned, another of its size never."""
        dying = (sys.executable, str(DYING), "after")
        with running(folder, "--begin", program=dying) as witness:
            client = witness.client()
            with pytest.raises(WitnessUnavailableError):
                ask(client, 0, 4)
            client.close()
            assert witness.process.wait(timeout=DEADLINE_S) == -signal.SIGKILL
        with running(folder) as witness:
            client = witness.client()
            assert known_size(client) == 4
            with pytest.raises(WitnessRefusedError, match="422"):
                ask(client, 4, 4, FORK)
            with pytest.raises(WitnessConflictError):
                ask(client, 0, 4, FORK)
            assert ask(client, 4, 4)
            client.close()

    def test_killed_before_keeping(self, folder: Path) -> None:
        """Nobody has its cosignature, so nothing is known, and either head may come first."""
        dying = (sys.executable, str(DYING), "before")
        with running(folder, "--begin", program=dying) as witness:
            client = witness.client()
            with pytest.raises(WitnessUnavailableError):
                ask(client, 0, 4)
            client.close()
        with running(folder) as witness:
            client = witness.client()
            assert known_size(client) == 0
            assert ask(client, 0, 4, FORK)
            client.close()

    @pytest.mark.parametrize("seed", range(2))
    def test_killed_at_any_moment(self, folder: Path, seed: int) -> None:
        """Clients race two versions of a log; the witness is killed after a random number of cosignatures."""
        chance = random.Random(seed)  # noqa: S311 - which moment, not which secret
        cosigned: list[tuple[int, bytes]] = []
        for round_ in range(3):
            with running(folder, *(("--begin",) if round_ == 0 else ())) as witness:
                client = witness.client()
                assert known_size(client) >= max((size for size, _ in cosigned), default=0)
                client.close()
                race(witness, cosigned, until=len(cosigned) + chance.randrange(1, 60))
        sizes: dict[int, set[bytes]] = {}
        for size, root in cosigned:
            sizes.setdefault(size, set()).add(root)
        assert all(len(roots) == 1 for roots in sizes.values())
        assert any(all(branch.root(size) == root for size, root in cosigned) for branch in (LOG, FORK))


def race(witness: Running, cosigned: list[tuple[int, bytes]], *, until: int) -> None:
    """Let clients race until that many heads are cosigned; kill the witness, and wait for the clients."""
    lock = threading.Lock()

    def run_branch(name: str) -> None:
        branch = Branch(name, since=1)
        client = witness.client()
        size = 0
        try:
            while True:
                try:
                    (line,) = ask(client, size, size + 1, branch)
                except WitnessConflictError as conflict:
                    size = conflict.known_size
                    continue
                except WitnessRefusedError:
                    continue
                size += 1
                assert verified_cosignatures(branch.note(size) + line + "\n", [SIGNER.public])
                with lock:
                    cosigned.append((size, branch.root(size)))
                    if len(cosigned) == until:
                        witness.process.send_signal(signal.SIGKILL)
        except S3MLError:
            return
        finally:
            client.close()

    threads = [threading.Thread(target=run_branch, args=(name,)) for name in ("", "fork") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert witness.process.wait(timeout=DEADLINE_S) == -signal.SIGKILL
