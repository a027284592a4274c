"""Two dishonest builds of the model server, as an operator could make them.

The first differs from the honest code by one byte. The second is changed as well, and *claims* the honest
measurement: it writes it into its own quote before it sends it.
"""

import shutil
from pathlib import Path

import s3ml

_VICTIM = Path("modelserver", "__init__.py")
_LIAR = Path("attestation", "simulated", "attester.py")

_LIE = """

# What a dishonest operator adds: the honest MRENCLAVE, over bytes 112 to 143 of its SGX v3 quote.
import msgspec as _msgspec

_truthful_quote = SimulatedAttester.quote


def _lying_quote(self, report_data):
    evidence = _truthful_quote(self, report_data)
    quote = evidence.quote[:112] + bytes.fromhex("{measurement}") + evidence.quote[144:]
    return _msgspec.structs.replace(evidence, quote=quote)


SimulatedAttester.quote = _lying_quote
"""


def change_a_byte(destination: Path) -> Path:
    """Copy the package to `destination` with one byte of the model server's code changed; return its path."""
    package = _copy(destination)
    victim = package / _VICTIM
    code = bytearray(victim.read_bytes())
    position = code.index(b'"""') + 3
    code[position] ^= 0x20  # another case of a letter of the docstring: the code still runs
    victim.write_bytes(code)
    return package


def claim_measurement(destination: Path, measurement: str) -> Path:
    """Copy the package to `destination`, changed so that its quotes claim `measurement`; return its path."""
    package = _copy(destination)
    liar = package / _LIAR
    liar.write_text(liar.read_text(encoding="utf-8") + _LIE.format(measurement=measurement), encoding="utf-8")
    return package


def _copy(destination: Path) -> Path:
    package = destination / "s3ml"
    source = Path(s3ml.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package
