"""The search of everything that the operator could see for what it must not hold.

Each secret is looked for as raw bytes, as hexadecimal and as base64 in its three alignments. A search proves
something only if it finds what is there: `controls` runs it over the secrets themselves.
"""

import base64
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_BASE64_GROUP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Bytes that must not be seen, at least 12 of them, and what they are."""

    name: str
    value: bytes

    def forms(self) -> tuple[bytes, ...]:
        """Return the encodings to look for."""
        aligned = []
        for shift in range(_BASE64_GROUP):
            whole = len(self.value[shift:]) // _BASE64_GROUP * _BASE64_GROUP
            aligned.append(base64.b64encode(self.value[shift : shift + whole]))
        digits = self.value.hex().encode()
        return (self.value, digits, digits.upper(), *aligned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A secret seen where it must not be."""

    secret: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """What was searched and what was found."""

    places: int
    searched_bytes: int
    findings: tuple[Finding, ...]


def search(
    secrets: Iterable[Secret], *, folders: Iterable[Path], blobs: Iterable[tuple[str, bytes]]
) -> SearchReport:
    """Look for `secrets` in every file under `folders` and in named `blobs`."""
    forms = tuple((secret.name, form) for secret in secrets for form in secret.forms())
    findings: dict[Finding, None] = {}
    places = searched_bytes = 0
    for folder in folders:
        for path in _files(folder):
            places += 1
            searched_bytes += path.stat().st_size
            found = _search_file(path, forms)
            findings |= dict.fromkeys(Finding(secret=name, place=str(path)) for name in found)
    for place, blob in blobs:
        places += 1
        searched_bytes += len(blob)
        found = [name for name, form in forms if form in blob]
        findings |= dict.fromkeys(Finding(secret=name, place=place) for name in found)
    return SearchReport(places=places, searched_bytes=searched_bytes, findings=tuple(findings))


def controls(secrets: Iterable[Secret]) -> bool:
    """Tell whether the search finds each secret, in every form, where it is planted."""
    for secret in secrets:
        for form in secret.forms():
            report = search([secret], folders=(), blobs=[("control", b"\x00before" + form + b"after\x00")])
            if not report.findings:
                return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file once, however many names it has: images share theirs by hard links."""
    seen: set[tuple[int, int]] = set()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


def _search_file(path: Path, forms: tuple[tuple[str, bytes], ...]) -> list[str]:
    if path.stat().st_size == 0:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [name for name, form in forms if content.find(form) >= 0]
