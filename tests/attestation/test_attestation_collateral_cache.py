"""What is kept: bounded, whole or absent, and never outside its folder."""

import errno
import os
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from s3ml.attestation.collateral import Freshness
from s3ml.attestation.collateral.cache import FolderCache, MemoryCache
from s3ml.attestation.collateral.freshness import State, explain_expired, judge
from s3ml.attestation.collateral.item import (
    ITEM_LIMIT_BYTES,
    CollateralRejectedError,
    Content,
    Inquiry,
    Item,
    Proof,
    Proven,
    encode_item,
    parse_item,
)
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import NOW


def proven(name: str, *, confirmed_s: float = 0, issued_s: float = 0, until_s: float = 86400) -> Proven:
    return Proven(
        item=Item(name=name, confirmed_at=NOW - timedelta(seconds=confirmed_s), source="here"),
        proof=Proof(
            issued_at=NOW - timedelta(seconds=issued_s), valid_until=NOW + timedelta(seconds=until_s)
        ),
    )


def inquiry(*, refresh_after_s: float | None = 60, max_age_s: float | None = 600) -> Inquiry:
    return Inquiry(
        name="name",
        what="thing",
        targets=(),
        read=lambda _: Content(),
        prove=lambda _, now: Proof(issued_at=now, valid_until=now),
        refresh_after_s=refresh_after_s,
        max_age_s=max_age_s,
    )


def forbidden(path: Path) -> bool:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


class TestMemory:
    """The least recently used items go first."""

    def test_what_was_used_stays(self) -> None:
        cache = MemoryCache(2)
        cache.put(proven("a"))
        cache.put(proven("b"))
        cache.get("a")
        cache.put(proven("c"))
        assert [cache.get(name) is not None for name in "abc"] == [True, False, True]


class TestNames:
    """No name leaves the folder."""

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "..",
            "../a",
            "a/b",
            "/etc/passwd",
            "a\x00b",
            "A",
            "a--b",
            "-a",
            "a-",
            "a\n",
            "ä",
            "a" * 201,
            ".a",
        ],
    )
    def test_other_names_are_refused(self, tmp_path: Path, name: str) -> None:
        cache = FolderCache(tmp_path / "cache")
        with pytest.raises(ConfigurationError, match="expected a name"):
            cache.get(name)
        with pytest.raises(ConfigurationError, match="expected a name"):
            cache.put(name, b"x")
        with pytest.raises(ConfigurationError, match="expected a name"):
            cache.discard(name)
        assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


class TestFolder:
    """A folder is its owner's, and bounded; other files in it are left alone."""

    def test_it_is_its_owners_alone(self, tmp_path: Path) -> None:
        FolderCache(tmp_path / "cache")
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700

    def test_the_oldest_file_makes_room(self, tmp_path: Path) -> None:
        cache = FolderCache(tmp_path, limit_bytes=3 * ITEM_LIMIT_BYTES)
        for number, name in enumerate(("a", "b", "c")):
            cache.put(name, bytes(ITEM_LIMIT_BYTES))
            os.utime(tmp_path / f"{name}.json", (number, number))
        (tmp_path / "other.txt").write_bytes(bytes(ITEM_LIMIT_BYTES))
        (tmp_path / "NO NAME.json").write_bytes(b"x")
        cache.put("d", b"x")
        assert cache.names() == ("b", "c", "d")
        assert (tmp_path / "other.txt").exists()

    def test_a_new_version_does_not_count_beside_the_old_one(self, tmp_path: Path) -> None:
        cache = FolderCache(tmp_path, limit_bytes=2 * ITEM_LIMIT_BYTES)
        for name in ("a", "b", "b"):
            cache.put(name, bytes(ITEM_LIMIT_BYTES))
        assert cache.names() == ("a", "b")

    def test_folders_and_dangling_links_are_passed_over(self, tmp_path: Path) -> None:
        cache = FolderCache(tmp_path, limit_bytes=ITEM_LIMIT_BYTES)
        (tmp_path / "folder.json").mkdir()
        (tmp_path / "link.json").symlink_to(tmp_path / "nothing")
        cache.put("a", bytes(ITEM_LIMIT_BYTES))
        assert cache.get("a") == bytes(ITEM_LIMIT_BYTES)
        cache.discard("folder")
        assert cache.get("link") is None

    def test_a_file_that_may_not_be_looked_at_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = FolderCache(tmp_path)
        monkeypatch.setattr(Path, "exists", forbidden)
        with pytest.raises(ConfigurationError, match=r"a\.json: Permission denied"):
            cache.get("a")

    def test_too_large_an_item_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="at most"):
            FolderCache(tmp_path).put("a", bytes(ITEM_LIMIT_BYTES + 1))

    def test_too_small_a_limit_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="at least"):
            FolderCache(tmp_path, limit_bytes=1)

    def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ConfigurationError, match="collateral cache"):
            FolderCache(tmp_path / "file" / "cache")

    def test_a_folder_that_is_gone_says_so(self, tmp_path: Path) -> None:
        cache = FolderCache(tmp_path / "cache")
        (tmp_path / "cache").rmdir()
        with pytest.raises(ConfigurationError, match="No such file"):
            cache.names()


class TestItems:
    """An item is read back exactly, or not at all."""

    def test_it_comes_back(self) -> None:
        item = proven("a").item
        assert parse_item(encode_item(item), name="a") == item

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (bytes(ITEM_LIMIT_BYTES + 1), "at most"),
            (b"{", "version 1"),
            (b"\xff", "version 1"),
            (encode_item(proven("a").item).replace(b'"version":1', b'"version":2'), "version 1"),
            (encode_item(proven("a").item).replace(b'"der"', b'"ber"'), "version 1"),
            (encode_item(proven("b").item), "expected the item a, got b"),
            (encode_item(msgspec.structs.replace(proven("a").item, source="x\x1b[2J")), r"`\$\.source`"),
            (encode_item(msgspec.structs.replace(proven("a").item, source="x\n")), r"`\$\.source`"),
            (encode_item(msgspec.structs.replace(proven("a").item, source="x\u202e")), r"`\$\.source`"),
        ],
    )
    def test_anything_else_is_rejected(self, data: bytes, told: str) -> None:
        with pytest.raises(CollateralRejectedError, match=told):
            parse_item(data, name="a")


class TestFreshness:
    """The soft limit counts from confirmation, the hard one from issue; an item's own end comes first."""

    @pytest.mark.parametrize(
        ("held", "limits", "state"),
        [
            (proven("a", confirmed_s=60), {}, State.FRESH),
            (proven("a", confirmed_s=61), {}, State.STALE),
            (proven("a", confirmed_s=-1), {}, State.STALE),
            (proven("a", confirmed_s=61), {"refresh_after_s": None}, State.FRESH),
            (proven("a", issued_s=600), {}, State.FRESH),
            (proven("a", issued_s=601), {}, State.EXPIRED),
            (proven("a", issued_s=601), {"max_age_s": None}, State.FRESH),
            (proven("a", issued_s=-1), {}, State.EXPIRED),
            (proven("a", until_s=0), {"refresh_after_s": None, "max_age_s": None}, State.EXPIRED),
        ],
    )
    def test_what_may_be_done_with_it(
        self, held: Proven, limits: dict[str, float | None], state: State
    ) -> None:
        assert judge(held, inquiry(**limits), NOW) is state

    def test_why_it_does_not_serve(self) -> None:
        assert "at most 600 s" in explain_expired(proven("a", issued_s=601), inquiry(), NOW)
        assert "valid from" in explain_expired(proven("a", until_s=0), inquiry(), NOW)

    @pytest.mark.parametrize(
        "limits",
        [
            {"refresh_after_s": 0},
            {"refresh_after_s": 3, "max_age_s": 2},
            {"refresh_after_s": 3, "max_crl_age_s": 2},
        ],
    )
    def test_limits_that_contradict_each_other_are_refused(self, limits: dict[str, float]) -> None:
        with pytest.raises(ConfigurationError, match="refresh_after_s <= max_age_s"):
            Freshness(**limits)
