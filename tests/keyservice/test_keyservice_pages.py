"""The pages of docs/spec name what the code knows: entries, resources, times, fields, stored secrets."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from s3ml.keyservice.authority import _PARTS
from s3ml.keyservice.client.trust_bundle import verify_trust_bundle
from s3ml.keyservice.documents import (
    ACKNOWLEDGEMENT_TYPE,
    Acknowledgement,
    AuditRecord,
    ControlStatement,
    DeploymentReply,
    EpochEntry,
    EpochStateEntry,
    ModelManifest,
    OwnersDocument,
    Proposal,
    Release,
    RotationDocument,
    ServiceDocument,
    ServiceTimes,
    TrustBundle,
    TrustStatement,
    WitnessesDocument,
)
from s3ml.keyservice.documents.entries import EntryBody
from s3ml.keyservice.epochs import TRANSITIONS, EpochState, key_ids
from s3ml.keyservice.escrow import SHARES_NAME
from s3ml.keyservice.fields import RESOURCE_PATTERN
from s3ml.keyservice.generations import LIFETIME, Generations, generation_id
from s3ml.keyservice.replica import Phase
from s3ml.keyservice.storage import SecretName
from s3ml.keyservice.vault import deployment_key_name, epoch_name, head_name, wrapping_key_name
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.secret import SecretBytes

SPEC = Path(__file__).parents[2] / "docs" / "spec"
ENTRIES = get_args(EntryBody)
TIMES = {field.name: field for field in msgspec.structs.fields(ServiceTimes)}


def page(name: str) -> str:
    return (SPEC / f"{name}.md").read_text(encoding="utf-8")


def rows(name: str, first: str) -> dict[str, list[str]]:
    """Return the table of a page whose first heading is `first`, by its first cell."""
    text = page(name)
    table = text[text.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
    return {key.strip("`"): rest for row in cells for key in row[0].split(", ") for rest in [row[1:]]}


def names(kind: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def words(text: str) -> set[str]:
    return set(re.findall(r"`([^`]*)`", text))


class TestLog:
    """docs/spec/log.md"""

    @pytest.mark.parametrize("entry", ENTRIES)
    def test_each_kind_of_entry_with_its_fields(self, entry: type[msgspec.Struct]) -> None:
        kind = str(entry.__struct_config__.tag)
        assert words(rows("log", "`kind`")[kind][0]) == names(entry)

    def test_no_other_kind(self) -> None:
        assert set(rows("log", "`kind`")) == {entry.__struct_config__.tag for entry in ENTRIES}
        assert "one of the nine below" in page("log")
        assert len(ENTRIES) == 9

    def test_the_proposal(self) -> None:
        table = page("log").split("The proposal:")[1].split("At least k")[0]
        assert names(Proposal) - {"version"} <= words(table)

    def test_each_state_of_an_epoch(self) -> None:
        assert set(rows("log", "state")) == {str(state) for state in EpochState}
        assert all(str(state) in page("log") for state in TRANSITIONS)

    @pytest.mark.parametrize("entry", [EpochEntry, EpochStateEntry])
    def test_each_reason(self, entry: type[msgspec.Struct]) -> None:
        (field,) = (one for one in msgspec.structs.fields(entry) if one.name == "reason")
        told = " ".join(cells[-1] for cells in rows("log", "step").values())
        assert set(get_args(field.type)) <= words(told)

    def test_each_phase_of_a_replica(self) -> None:
        assert set(rows("log", "phase")) == {str(phase) for phase in Phase}
        (field,) = (one for one in msgspec.structs.fields(DeploymentReply) if one.name == "state")
        assert set(get_args(field.type)) == {str(phase) for phase in Phase}

    def test_key_ids(self) -> None:
        assert "`2 (e mod 128)` and the next" in page("log")
        assert [key_ids(number) for number in (1, 127, 128, 129)] == [(2, 3), (254, 255), (0, 1), (2, 3)]

    def test_the_acknowledgement(self) -> None:
        assert ACKNOWLEDGEMENT_TYPE in page("log")
        assert ACKNOWLEDGEMENT_TYPE in page("encodings")
        assert all(f'"{name}"' in page("log") for name in names(Acknowledgement))

    def test_the_audit_record(self) -> None:
        assert all(f'"{name}"' in page("log") for name in names(AuditRecord))


class TestControlMessage:
    """docs/spec/control-message.md"""

    def test_the_statement(self) -> None:
        assert set(rows("control-message", "field")) == names(ControlStatement)

    def test_each_resource_and_no_other(self) -> None:
        told = {re.sub(r"\{\w+\}", "x", name) for name in rows("control-message", "resource")}
        assert all(re.match(RESOURCE_PATTERN, name) for name in told)
        kinds = set(re.findall(r"[a-z-]+(?=[|)])", RESOURCE_PATTERN))
        assert {
            name.partition("/")[0] if name.endswith("/x") else name.partition("/")[2] for name in told
        } == kinds

    def test_what_governs(self) -> None:
        assert {f"deployment/{part}" for part in (*_PARTS, "recovery")} == {
            name for name in rows("control-message", "resource") if name.startswith("deployment/")
        }

    @pytest.mark.parametrize("kind", [RotationDocument, OwnersDocument, WitnessesDocument])
    def test_bodies(self, kind: type[msgspec.Struct]) -> None:
        assert all(f'"{name}"' in page("control-message") for name in names(kind))

    def test_the_service(self) -> None:
        text = page("control-message")
        table = text[text.index("## Services") : text.index("A manifest is")]
        assert names(ServiceDocument) - {"times"} <= words(table)
        assert {f"times.{name}" for name in TIMES} <= words(table)
        assert all(f'"{name}"' in text for name in names(ModelManifest))

    @pytest.mark.parametrize("name", TIMES)
    def test_times(self, name: str) -> None:
        line = next(line for line in page("control-message").splitlines() if f"`times.{name}`" in line)
        metas = [one for one in TIMES[name].type.__metadata__ if isinstance(one, msgspec.Meta)]
        assert f"{metas[0].ge:,} to {metas[0].le:,}" in line
        assert line.rstrip("| ").endswith(f"{TIMES[name].default:,}")


class TestReleaseAndTrustBundle:
    """docs/spec/release.md, docs/spec/trust-bundle.md"""

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("release", Release), ("trust-bundle", TrustBundle), ("trust-bundle", TrustStatement)],
    )
    def test_every_field(self, name: str, kind: type[msgspec.Struct]) -> None:
        assert names(kind) <= words(page(name))

    def test_every_step(self) -> None:
        told = page("trust-bundle").split("## Verification")[1]
        assert verify_trust_bundle.__doc__ is not None
        assert re.findall(r"^(\d+)\. ", told, re.MULTILINE) == re.findall(
            r"^ {4}(\d+)\. ", verify_trust_bundle.__doc__, re.MULTILINE
        )


class TestStoredSecrets:
    """docs/spec/encodings.md, section "Stored secrets"."""

    @pytest.mark.parametrize(
        "name",
        [
            *(deployment_key_name(kind, 1) for kind in ("checkpoint", "statement", "intake")),
            epoch_name("tumours", 3),
            head_name(7),
            SHARES_NAME,
        ],
    )
    def test_each_kind(self, name: SecretName) -> None:
        assert name.kind in rows("encodings", "kind")

    def test_the_slot_of_a_platform(self) -> None:
        slot = tagged_sha256("S3ML sealing slot v1", bytes(32)).hex()
        assert wrapping_key_name(SecretBytes(bytes(32)), 2) == SecretName(
            kind="wrapping-key", name=slot, version="2"
        )
        assert 'SHA-256(tagged("S3ML sealing slot v1", sealing key))' in page("encodings")

    def test_the_id_of_a_generation(self) -> None:
        assert generation_id(SecretBytes(bytes(32))) == tagged_sha256("S3ML generation v1", bytes(32)).hex()
        assert 'SHA-256(tagged("S3ML generation v1", key))' in page("encodings")

    def test_the_life_of_a_generation(self) -> None:
        assert f"for a day ({LIFETIME.total_seconds():,.0f} s)" in page("encodings")
        generations = Generations("0" * 64)
        first = generations.newest(datetime(2026, 1, 1, tzinfo=UTC))
        assert generations.newest(datetime(2026, 1, 1, 23, 59, tzinfo=UTC)) == first
        assert generations.newest(datetime(2026, 1, 2, tzinfo=UTC)) != first
