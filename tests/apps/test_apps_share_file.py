"""Small secrets on paper: k of n share files, and what a slip or a forger does to them."""

import secrets
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.apps.governance.share_file import (
    FileShare,
    combine_files,
    encode_share,
    parse_share,
    split_file,
)
from s3ml.keyservice.escrow.splitting import Piece
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.secret import SecretBytes
from tests.apps.recovery_site import Desk

SECRET = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n"


def shares(secret: bytes = SECRET, threshold: int = 2, count: int = 3) -> tuple[FileShare, ...]:
    return split_file(SecretBytes(secret), threshold=threshold, count=count, random_bytes=secrets.token_bytes)


def named(*chosen: FileShare) -> dict[str, FileShare]:
    return {f"{'abcdef'[place]}.share": share for place, share in enumerate(chosen)}


def parsed(text: str) -> FileShare:
    return parse_share(text.encode(), what="file")


class TestFiles:
    @given(st.binary(min_size=1, max_size=300))
    def test_what_is_written_is_read(self, secret: bytes) -> None:
        first, _, third = (parse_share(encode_share(one), what="file") for one in shares(secret))
        assert combine_files(named(third, first)).reveal() == secret

    def test_as_somebody_typed_it(self) -> None:
        share = shares()[0]
        text = encode_share(share).decode()
        begin, body, end = text.partition("\n")[0], text.split("\n")[2:-2], text.split("\n")[-2]
        typed = "\r\n\n".join((f"  {begin}", *(line.lower().replace(" ", "  ") for line in body), end))
        assert parsed(typed).piece.value == share.piece.value

    def test_its_lines_fit_on_paper(self) -> None:
        for line in encode_share(shares()[0]).decode().splitlines():
            assert len(line) <= 80

    def test_a_slip_is_found_in_its_line(self) -> None:
        lines = encode_share(shares()[0]).decode().split("\n")
        for number in range(2, len(lines) - 2):
            line = lines[number]
            slipped = ("B" if line[0] != "B" else "C") + line[1:]
            text = "\n".join((*lines[:number], slipped, *lines[number + 1 :]))
            with pytest.raises(ConfigurationError, match=f"line {number - 1} of the share"):
                parsed(text)

    def test_two_lines_swapped(self) -> None:
        lines = encode_share(shares()[0]).decode().split("\n")
        lines[3], lines[4] = lines[4], lines[3]
        with pytest.raises(ConfigurationError, match="line 2 of the share"):
            parsed("\n".join(lines))

    @pytest.mark.parametrize("kept", [0, 1, 2, 6])
    def test_lines_that_are_missing(self, kept: int) -> None:
        lines = encode_share(shares()[0]).decode().split("\n")
        with pytest.raises(ConfigurationError, match="lines are missing"):
            parsed("\n".join((*lines[: 2 + kept], *lines[-2:])))

    @pytest.mark.parametrize("line", ["", "A", "ABCD", "ABC1 ABCD", "ABCDEABCD", "é" * 8, "A" * 99])
    def test_a_line_that_is_none(self, line: str) -> None:
        lines = encode_share(shares()[0]).decode().split("\n")
        with pytest.raises(ConfigurationError):
            parsed("\n".join((*lines[:2], line, *lines[4:])))

    @pytest.mark.parametrize("text", ["", "hello", "-----BEGIN S3ML SHARE-----"])
    def test_what_is_no_share_file(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="is no share file"):
            parsed(text)

    @given(st.binary(max_size=400))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        wrapped = b"-----BEGIN S3ML SHARE-----\n" + data + b"\n-----END S3ML SHARE-----\n"
        for candidate in (data, wrapped):
            with pytest.raises(ConfigurationError):
                parse_share(candidate, what="file")


class TestWrongShares:
    def test_of_two_sets(self) -> None:
        first, other = shares()[0], shares()[1]
        with pytest.raises(
            UntrustedPeerError, match=r"one set, got set \w{16}: a.share; set \w{16}: b.share"
        ):
            combine_files(named(first, other))

    def test_a_forged_one_is_named(self) -> None:
        first, second, _ = shares()
        forged = FileShare(
            outline=second.outline, piece=Piece(index=2, value=SecretBytes(bytes(len(second.piece.value))))
        )
        again = parse_share(encode_share(forged), what="file")
        with pytest.raises(UntrustedPeerError, match=r"got changed ones: b\.share"):
            combine_files(named(first, again))

    def test_too_few(self) -> None:
        with pytest.raises(ConfigurationError, match="expected 2, got 1"):
            combine_files(named(shares()[0]))

    def test_the_same_one_twice(self) -> None:
        share = shares()[0]
        with pytest.raises(ConfigurationError, match="one of them twice"):
            combine_files(named(share, share))

    def test_none(self) -> None:
        with pytest.raises(UntrustedPeerError, match="got none"):
            combine_files({})

    def test_more_shares_than_fit(self) -> None:
        with pytest.raises(ConfigurationError, match="expected 1 to 16, got 17"):
            shares(count=17)

    def test_a_large_secret(self) -> None:
        with pytest.raises(ConfigurationError, match="at most 4096 bytes"):
            shares(bytes(4097))

    def test_the_largest_set_is_read_back(self) -> None:
        made = shares(bytes(range(256)) * 16, 16, 16)
        read = [parse_share(encode_share(one), what="file") for one in made]
        assert combine_files({str(i): one for i, one in enumerate(read)}).reveal() == bytes(range(256)) * 16


class TestCommands:
    @pytest.fixture
    def desk(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Desk:
        made = Desk(tmp_path, capfd)
        (tmp_path / "owner.key").write_bytes(SECRET)
        return made

    def split(self, desk: Desk) -> list[str]:
        assert desk.run("split", desk.path("owner.key"), "--threshold", "2", "--shares", "3") == 0
        return [desk.path(f"owner.key.{number}.share") for number in (1, 2, 3)]

    def test_split_and_combined(self, desk: Desk) -> None:
        first, _, third = self.split(desk)
        assert "share 3 of 3; any 2 restore the file" in desk.out
        assert desk.run("combine", first, third, "-o", desk.path("restored")) == 0
        restored = Path(desk.path("restored"))
        assert restored.read_bytes() == SECRET
        for path in (restored, Path(first)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_nothing_secret_is_printed_unless_asked(self, desk: Desk) -> None:
        files = self.split(desk)
        assert "MC4CAQ" not in desk.out + desk.err
        assert desk.run("combine", *files, "-o", desk.path("restored")) == 0
        assert "MC4CAQ" not in desk.out + desk.err
        assert desk.run("combine", *files, "--print-secret") == 0
        assert desk.out == SECRET.decode()

    def test_too_few(self, desk: Desk) -> None:
        assert desk.run("combine", self.split(desk)[0], "-o", desk.path("restored")) == 2
        assert desk.err == "s3ml: shares: expected 2, got 1\n"
        assert not Path(desk.path("restored")).exists()

    def test_nothing_is_replaced_unasked(self, desk: Desk) -> None:
        files = self.split(desk)
        words = [desk.path("owner.key"), "--threshold", "1", "--shares", "1"]
        assert desk.run("split", *words) == 2
        assert "exists already" in desk.err
        assert desk.run("combine", *files, "-o", desk.path("owner.key")) == 2
        assert desk.run("split", *words, "--force") == 0

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "expected share files, or --request with --identity"),
            (["a", "a", "-o", "x"], "expected each file once"),
            (["a"], "expected either --output FILE or --print-secret"),
            (["a", "-o", "x", "--print-secret"], "expected either --output FILE or --print-secret"),
            (["a", "-o", "/nowhere/x"], "share file a: No such file"),
            (["--request", "r", "-o", "x"], "with --request, expected --identity and --output"),
            (["--request", "r", "--identity", "i"], "with --request, expected --identity and --output"),
        ],
    )
    def test_bad_input_is_one_line(
        self, desk: Desk, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(desk.folder)
        assert desk.run("combine", *words) == 2
        assert told in desk.err
        assert desk.err.count("\n") == 1


class TestKeys:
    @pytest.fixture
    def desk(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Desk:
        return Desk(tmp_path, capfd)

    def test_the_recipient_is_printed_and_the_identity_kept(self, desk: Desk) -> None:
        assert desk.run("keygen", desk.path("ada")) == 0
        kept = Path(desk.path("ada.agekey"))
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert desk.out.strip() == Path(desk.path("ada.agepub")).read_text().strip()
        assert "AGE-SECRET-KEY" in kept.read_text()
        assert "AGE-SECRET-KEY" not in desk.out + desk.err

    def test_nothing_is_replaced_unasked(self, desk: Desk) -> None:
        assert desk.run("keygen", desk.path("ada")) == 0
        assert desk.run("keygen", desk.path("ada")) == 2
        assert "exists already" in desk.err
        assert desk.run("keygen", desk.path("ada"), "--force", "--json") == 0
        assert desk.json["recipient"].startswith("age1")

    @pytest.mark.parametrize(
        "text", ["", "# nothing", "AGE-SECRET-KEY-1QQ", "age1abc", "AGE-SECRET-KEY-1A\nAGE-SECRET-KEY-1B"]
    )
    def test_what_is_no_identity(self, tmp_path: Path, text: str) -> None:
        from s3ml.apps.governance.recovery import read_identity

        (tmp_path / "x").write_text(text)
        with pytest.raises(ConfigurationError, match="age identity") as refused:
            read_identity(tmp_path / "x")
        assert "1QQ" not in str(refused.value)
