"""The account that the demonstration gives: one JSON object for scripts, one page for people."""

from typing import Any

import msgspec
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from s3ml.apps.cli.console import FORKABLE_LINE, SIMULATED_LINE


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A dishonest replica that got no keys: who, and what the key service said."""

    replica: str
    claims: str
    measured: str
    expected: str
    reason: str
    is_refused: bool


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that has to hold, and the figures."""

    is_simulated: bool = True
    is_fork_protected: bool = False
    requests: int
    failed: int
    agreement: float
    accuracy: float
    replica_killed: bool
    replacement_served: int
    replacement_ready_s: float
    tampered_refused: int
    refusals: tuple[Refusal, ...]
    plaintext_found: int
    search_controls_found: bool
    searched_places: int
    searched_bytes: int
    captured_bytes: int
    retries_gateway: int
    retries_client: int
    trust_refreshes: int
    p50_ms: float
    p99_ms: float
    duration_s: float
    steps: dict[str, float]
    findings: tuple[str, ...] = ()
    excerpt: str = ""

    @property
    def broken(self) -> tuple[str, ...]:
        """What did not hold, a line each."""
        promises = (
            (self.requests > 0, "no request was made"),
            (self.failed == 0, f"{self.failed} requests failed for the caller"),
            (self.agreement == 1.0, f"only {self.agreement:.2%} of the replies equal the plaintext model's"),
            (self.replica_killed, "no replica was killed"),
            (self.replacement_served > 0, "the replacement served nothing"),
            (self.tampered_refused == len(self.refusals) > 0, "a changed replica was not refused"),
            (self.search_controls_found, "the search did not find its own controls"),
            (self.plaintext_found == 0, f"plaintext was found: {'; '.join(self.findings)}"),
        )
        return tuple(reason for holds, reason in promises if not holds)

    def to_json(self) -> str:
        """Return the object on one line."""
        fields = msgspec.to_builtins(self)
        fields["held"] = not self.broken
        return msgspec.json.encode(fields).decode()


def render(account: Account, console: Console) -> None:
    """Print the account as one page."""
    console.print(Panel(_page(account), title=_title(account), border_style="red", padding=(1, 2)))


def _title(account: Account) -> Text:
    verdict = "everything held" if not account.broken else "NOT EVERYTHING HELD"
    return Text.assemble((" SIMULATED ", "bold white on red"), f" s3ml demo: {verdict} ")


def _page(account: Account) -> Group:
    warnings = Text.assemble(
        ("SIMULATED ", "bold red"),
        SIMULATED_LINE,
        "\n",
        ("NOT FORK-PROTECTED ", "bold yellow"),
        FORKABLE_LINE,
    )
    refusals = Table(box=None, padding=(0, 2, 0, 0), title="Changed replicas, as the key service saw them")
    for column in ("replica", "expected", "got", "outcome"):
        refusals.add_column(column, overflow="fold")
    for refusal in account.refusals:
        refusals.add_row(
            refusal.replica,
            refusal.expected[:16] + "…",
            f"{refusal.claims[:16]}… {'' if refusal.claims == refusal.measured else '(claimed, not signed)'}",
            "refused" if refusal.is_refused else "NOT REFUSED",
        )
    parts: list[Any] = [warnings, "", _facts(account), "", refusals]
    if account.excerpt:
        parts += [
            "",
            Text("One request, as the gateway saw it:", style="bold"),
            Text(account.excerpt, style="dim"),
        ]
    parts += [Text(f"✗ {reason}", style="bold red") for reason in account.broken]
    return Group(*parts)


def _facts(account: Account) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    agreement = f"{account.agreement:.1%} equal to the plaintext model's to the bit"
    successor = f"its successor ready after {account.replacement_ready_s:.2f} s"
    places = f"{account.searched_bytes / 1e6:,.0f} MB in {account.searched_places:,} places"
    rows = (
        ("requests", f"{account.requests:,} sealed, {account.failed} failed, {agreement}"),
        ("accuracy", f"{account.accuracy:.1%} on cases held out from training"),
        (
            "latency",
            f"p50 {account.p50_ms:.2f} ms, p99 {account.p99_ms:.2f} ms: one at a time, through Envoy",
        ),
        ("failover", f"a replica killed with SIGKILL under load; {successor}"),
        ("", f"{account.replacement_served:,} requests served by the successor"),
        ("retries", f"{account.retries_gateway} by the gateway, {account.retries_client} by the client"),
        ("search", f"{places} (traffic, logs, disk, database)"),
        ("", f"{account.plaintext_found} traces of a row or of a weight"),
        ("time", f"{account.duration_s:.1f} s in all"),
    )
    for name, value in rows:
        table.add_row(name, value)
    return table


def hex_excerpt(captured: bytes, *, lines: int = 8) -> str:
    """Return the first bytes of a request's body as people read them: offset, hexadecimal, text."""
    head, _, body = captured.partition(b"\r\n\r\n")
    shown = [head.split(b"\r\n", 1)[0].decode(errors="replace")]
    for offset in range(0, min(len(body), 16 * lines), 16):
        row = body[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)  # noqa: PLR2004 - printable ASCII
        shown.append(f"{offset:04x}  {row.hex(' '):<47}  {text}")
    return "\n".join(shown)
