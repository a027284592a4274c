"""`s3ml collateral`: fetch what vendors sign about platforms, and show what it says."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.markup import escape

from s3ml.apps.cli.console import facts, print_json, stdout, warn_about_simulation
from s3ml.apps.cli.options import FILE, allow_simulated_option, json_option, simulation_root_option
from s3ml.apps.governance.policies import read_root
from s3ml.attestation import (
    Evidence,
    EvidenceMalformedError,
    Technology,
    Tee,
    encode_evidence,
    parse_evidence,
)
from s3ml.attestation.collateral import (
    AMD_KDS_URL,
    INTEL_PCS_URL,
    AmdService,
    CollateralClient,
    CollateralRejectedError,
    Freshness,
    IntelService,
    Transport,
    pccs,
    pcs,
)
from s3ml.attestation.collateral.cache import FolderCache
from s3ml.attestation.collateral.embedded import read_embedded
from s3ml.attestation.collateral.endpoints import INTEL_ROOT_CRL_URL
from s3ml.attestation.collateral.inspection import ItemFacts, inspect
from s3ml.attestation.collateral.intel import Update
from s3ml.attestation.collateral.item import Item, parse_item
from s3ml.attestation.collateral.transport import DEFAULT_DEADLINE_S
from s3ml.attestation.evidence import EVIDENCE_LIMIT_BYTES
from s3ml.attestation.verify.amd.report import REPORT_BYTES
from s3ml.attestation.verify.intel.root import INTEL_ROOT_DER
from s3ml.attestation.verify.intel.sgx_quote import QUOTE_VERSION
from s3ml.attestation.verify.intel.tdx_quote import trim_tdx_quote
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.units import DAY_S

EXIT_PROBLEM = 3
SIMULATED_LINE = "a simulation signed this collateral; it proves nothing about a real machine."
PATH = click.Path(path_type=Path)


@click.group("collateral")
def command() -> None:
    """Fetch what TEE vendors sign about platforms, and show what it says."""


@command.command("fetch")
@click.argument("file", type=FILE)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="A folder for the items, or a file that ends in .json for evidence that carries them.",
)
@click.option("--pccs", "pccs_urls", metavar="URL", multiple=True, help="A PCCS to ask first; repeatable.")
@click.option(
    "--pcs", "pcs_urls", metavar="URL", multiple=True, help="Intel's service or a relay. [default: Intel's]"
)
@click.option(
    "--root-crl", metavar="URL", default=INTEL_ROOT_CRL_URL, help="Where --pcs has the root's CRL. [Intel's]"
)
@click.option(
    "--kds", "kds_urls", metavar="URL", multiple=True, help="AMD's service or a relay. [default: AMD's]"
)
@click.option(
    "--update",
    type=click.Choice(["standard", "early"]),
    default="standard",
    show_default=True,
    help="Intel's documents that count now, or those that will.",
)
@click.option("--tls-ca", type=FILE, help="PEM of an authority to trust besides the system's, for a PCCS.")
@click.option("--proxy", metavar="URL", help="An HTTP proxy; none is taken from the environment.")
@click.option(
    "--timeout",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_DEADLINE_S,
    show_default=True,
    help="Seconds for one whole request.",
)
@allow_simulated_option
@simulation_root_option
def fetch_command(
    file: Path,
    *,
    output: Path,
    pccs_urls: tuple[str, ...],
    pcs_urls: tuple[str, ...],
    root_crl: str,
    kds_urls: tuple[str, ...],
    update: Update,
    tls_ca: Path | None,
    proxy: str | None,
    deadline_s: float,
    allow_simulated: bool,
    simulation_root: Path | None,
) -> None:
    """Fetch the collateral of the quote, report or evidence in FILE.

    Everything is verified before it is written. Items that a folder has already are renewed; an older one
    never replaces a newer one.
    """
    root = _read_root(simulation_root, allow_simulated=allow_simulated)
    evidence = _read_input(file, is_simulated=root is not None)
    services = () if pccs_urls and not pcs_urls else pcs_urls or (INTEL_PCS_URL,)
    is_evidence = output.suffix == ".json"
    with CollateralClient(
        intel=IntelService(
            endpoints=(
                *(pccs(url) for url in pccs_urls),
                *(pcs(url, root_crl_url=root_crl) for url in services),
            ),
            root=INTEL_ROOT_DER if root is None else root,
            update=update,
        ),
        amd=AmdService(endpoints=kds_urls or (AMD_KDS_URL,), root=root),
        folder=None if is_evidence else output,
        transport=Transport(deadline_s=deadline_s, tls=_tls(tls_ca), proxy=proxy),
        always_ask=True,
    ) as client:
        evidence = _fetch(client, evidence, file)
    if is_evidence:
        write_atomically(output, encode_evidence(evidence))
    click.echo(f"{output}: written")


@command.command("show")
@click.argument("source", type=PATH)
@click.option("--at", metavar="TIME", help="Judge ages as of this instant. [default: now]")
@allow_simulated_option
@simulation_root_option
@json_option
def show_command(
    source: Path, *, at: str | None, allow_simulated: bool, simulation_root: Path | None, as_json: bool
) -> None:
    """Show what the collateral in SOURCE says: a folder of items, or evidence.

    Exit status 0 only when every item is what its vendor signed and has not expired; 3 otherwise.
    """
    root = _read_root(simulation_root, allow_simulated=allow_simulated)
    now = datetime.now(UTC) if at is None else _instant(at)
    items = _read_folder(source) if source.is_dir() else _read_evidence(source, root, now)
    if not items:
        raise ConfigurationError(f"{source}: expected items from: s3ml collateral fetch")
    found = inspect(items, root=root, freshness=Freshness(), now=now)
    is_sound = all(one.problem is None for one in found)
    if as_json:
        document = {"at": now, "is_simulated": root is not None, "is_sound": is_sound, "items": found}
        print_json(msgspec.to_builtins(document))
    else:
        _print(found, now)
    if not is_sound:
        raise click.exceptions.Exit(EXIT_PROBLEM)


def _read_root(file: Path | None, *, allow_simulated: bool) -> bytes | None:
    if (file is not None) != allow_simulated:
        raise ConfigurationError("collateral: give --allow-simulated and --simulation-root FILE, or neither")
    if file is None:
        return None
    warn_about_simulation(SIMULATED_LINE)
    return read_root(file)


def _read_input(file: Path, *, is_simulated: bool) -> Evidence:
    """Read evidence, or make it from a bare quote or report."""
    data = read_limited(file, limit_bytes=EVIDENCE_LIMIT_BYTES, what="quote or evidence")
    try:
        if data[:1] == b"{":
            return parse_evidence(data)
        if len(data) == REPORT_BYTES:
            technology = Technology.SEV_SNP
        elif int.from_bytes(data[:2], "little") == QUOTE_VERSION:
            technology = Technology.SGX
        else:
            technology, data = Technology.TDX, trim_tdx_quote(data)
    except EvidenceMalformedError as error:
        raise ConfigurationError(f"{file}: expected a quote, a report or evidence: {error}") from error
    if is_simulated:
        simulates = None if technology is Technology.SGX else technology
        return Evidence(tee=Tee.SIMULATED, simulates=simulates, quote=data)
    return Evidence(tee=Tee(technology), quote=data)


def _fetch(client: CollateralClient, evidence: Evidence, file: Path) -> Evidence:
    try:
        if evidence.technology is Technology.SEV_SNP:
            certificates = client.for_report(evidence.quote)
            return msgspec.structs.replace(evidence, certificates=certificates, collateral=None)
        collateral = client.for_quote(evidence.quote)
        return msgspec.structs.replace(evidence, collateral=collateral, certificates=None)
    except EvidenceMalformedError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def _tls(authority: Path | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=authority)
    except OSError as error:
        raise ConfigurationError(f"--tls-ca {authority}: expected certificates, PEM") from error
    return context


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = datetime.min  # noqa: DTZ901 - without a zone, as what is refused next
    if instant.tzinfo is None:
        raise ConfigurationError(f"--at: expected a time such as 2026-03-01T12:00:00Z, got {text[:40]!r}")
    return instant


def _read_folder(folder: Path) -> list[Item]:
    files = FolderCache(folder)
    items = []
    for name in files.names():
        try:
            items.append(parse_item(files.get(name) or b"", name=name))
        except CollateralRejectedError as error:
            raise ConfigurationError(f"{folder / name}.json: {error}") from error
    return items


def _read_evidence(file: Path, root: bytes | None, now: datetime) -> list[Item]:
    data = read_limited(file, limit_bytes=EVIDENCE_LIMIT_BYTES, what="evidence")
    try:
        return list(read_embedded(parse_evidence(data), root=root, now=now))
    except (ConfigurationError, CollateralRejectedError, EvidenceMalformedError) as error:
        raise ConfigurationError(f"{file}: {error}") from error


def _print(found: tuple[ItemFacts, ...], now: datetime) -> None:
    stdout.print(facts([(_mark(one) + escape(one.what), escape(_describe(one))) for one in found]))
    verdict = "[bold red]NOT USABLE[/]" if any(one.problem for one in found) else "[bold green]USABLE[/]"
    stdout.print(f"{verdict} as of {now.isoformat()}")


def _mark(one: ItemFacts) -> str:
    return "[green]✓[/] " if one.problem is None else "[red]✗[/] "


def _describe(one: ItemFacts) -> str:
    """Return what an item says, and what is wrong with it, in one line."""
    parts = [f"by {one.issuer}", f"from {one.source}"]
    if one.issued_at is not None and one.valid_until is not None and one.age_s is not None:
        age = f"{one.age_s / DAY_S:.1f} days old"
        parts += [f"issued {_minute(one.issued_at)}, {age}", f"until {_minute(one.valid_until)}"]
    if one.evaluation_data_number:
        parts.append(f"TCB evaluation data number {one.evaluation_data_number}")
    if one.is_revocation_list:
        parts.append(f"{one.revoked or 0} revoked")
    if one.problem is not None:
        parts.insert(0, f"NOT USABLE: {one.problem}")
    return "; ".join(parts)


def _minute(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M UTC")
