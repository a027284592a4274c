"""`s3ml epc-emulate` where nothing of the machine may be changed: refusals in one line, and what it tells."""

import json
import os
from pathlib import Path

import pytest

from s3ml.apps.cli import epc_emulate
from s3ml.apps.cli.root import run
from s3ml.tee_memory.emulated.standing import (
    Health,
    NodeStanding,
    ServerStanding,
    Standing,
    Usage,
)

MIB = 1 << 20


def node(health: Health, *, name: str = "n1") -> NodeStanding:
    usage = Usage(resident_bytes=12 * MIB, evicted_bytes=MIB // 2, page_ins=1234)
    return NodeStanding(
        name=name,
        health=health,
        size_bytes=16 * MIB,
        holder_pid=7,
        processes=(8, 9),
        usage=usage,
        servers=(ServerStanding(name="a", usage=usage), ServerStanding(name="b", usage=None)),
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Standing]:
    """What the machine is said to have, whatever it has."""
    standings: list[Standing] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(epc_emulate, "look", lambda _registry, _host: standings[0])
    return standings


class TestRefusals:
    """One line, and status 2; nothing was changed."""

    @pytest.mark.parametrize(
        "words",
        [
            ["up", "n1", "--size", "16"],
            ["run", "n1", "--", "true"],
            ["resize", "n1", "--size", "16"],
            ["status"],
            ["down", "n1"],
        ],
    )
    def test_others_than_root_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert run(["epc-emulate", *words]) == 2
        said = capsys.readouterr()
        assert said.err == "s3ml: epc-emulate: expected to run as root: it changes settings of this machine\n"
        assert said.out == ""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["up", "N1", "--size", "16"], "node: expected 1 to 63 of a-z, 0-9 and inner hyphens, got 'N1'"),
            (["up", "n1/..", "--size", "16"], "node: expected 1 to 63"),
            (["up", "n1", "--size", "3"], "3 is not in the range 4<=x<="),
            (["up", "n1"], "Missing option '--size'"),
            (["run", "n1"], "Missing argument 'COMMAND...'"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, capsys: pytest.CaptureFixture[str], words: list[str], said: str, tmp_path: Path
    ) -> None:
        state = ["--state", str(tmp_path / "state")]
        assert run(["epc-emulate", words[0], *state, *words[1:]]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("s3ml: ")
        assert said in line
        assert list(tmp_path.iterdir()) == []


class TestStatus:
    """It tells what is up, what is wrong with it, and what to do."""

    def test_nodes_and_servers_are_told(
        self, told: list[Standing], capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = "a-name-of-sixty-three-characters-" + "x" * 30
        told.append(
            Standing(
                is_restored=False, lacks=(), swap_device="/dev/zram0", nodes=(node(Health.UP, name=name),)
            )
        )
        assert run(["epc-emulate", "status"]) == 0
        said = capsys.readouterr()
        assert "EMULATED" in said.err
        lines = [line.split() for line in said.out.splitlines()]
        assert [name, "up", "16", "12.0", "0.5", "1,234", "2"] in lines
        assert ["a", "12.0", "0.5", "1,234"] in lines
        assert ["b", "-", "-", "-"] in lines
        assert "down" not in said.out

    @pytest.mark.parametrize(
        ("health", "why"),
        [(Health.UNRELIEVED, "its holder is gone"), (Health.HALF_DONE, "a command was killed half way")],
    )
    def test_what_heals_is_told(
        self, told: list[Standing], capsys: pytest.CaptureFixture[str], health: Health, why: str
    ) -> None:
        told.append(Standing(is_restored=False, lacks=(), swap_device="/dev/zram0", nodes=(node(health),)))
        assert run(["epc-emulate", "status"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == (
            f"n1: {why}: s3ml epc-emulate up n1 --size 16, or s3ml epc-emulate down n1"
        )

    @pytest.mark.parametrize(
        ("standing", "said"),
        [
            (Standing(is_restored=True, lacks=(), swap_device=None, nodes=()), "no node is up"),
            (
                Standing(
                    is_restored=True, lacks=("zram in the kernel", "swapon"), swap_device=None, nodes=()
                ),
                "no node is up; this machine lacks zram in the kernel; swapon",
            ),
            (
                Standing(is_restored=False, lacks=(), swap_device="/dev/zram0", nodes=()),
                (
                    "no node is up; a killed command left settings changed: "
                    "s3ml epc-emulate down NODE restores them"
                ),
            ),
        ],
    )
    def test_nothing_is_told_as_well(
        self, told: list[Standing], capsys: pytest.CaptureFixture[str], standing: Standing, said: str
    ) -> None:
        told.append(standing)
        assert run(["epc-emulate", "status"]) == 0
        assert capsys.readouterr().out == f"{said}\n"

    def test_scripts_get_the_document(self, told: list[Standing], capsys: pytest.CaptureFixture[str]) -> None:
        told.append(
            Standing(is_restored=False, lacks=(), swap_device="/dev/zram0", nodes=(node(Health.UNRELIEVED),))
        )
        assert run(["epc-emulate", "status", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["is_emulated"] is True
        assert document["nodes"][0]["health"] == "unrelieved"
        assert document["nodes"][0]["servers"][1] == {"name": "b", "usage": None}
