"""The whole corpus: every lie, told of the technologies that it is about."""

from collections.abc import Iterable, Iterator, Mapping

from s3ml.attestation import Technology
from s3ml.attestation.simulated.pki import SimulatedPKI
from tests.attestation.attestation_world import CREATED, World
from tests.attestation.corpus import evidence, intel_claims, intel_quotes, sgx, snp, tdx
from tests.attestation.corpus.guest_world import GuestWorld
from tests.attestation.corpus.lie import Entry, Lie, Told
from tests.attestation.tdx_world import TdxWorld

INTEL = (*evidence.INTEL, *intel_claims.LIES, *intel_quotes.LIES)

LIES: dict[Technology, tuple[Lie, ...]] = {
    Technology.SGX: (*evidence.LIES, *evidence.SGX, *sgx.LIES, *INTEL),
    Technology.TDX: (*tdx.LIES, *INTEL),
    Technology.SEV_SNP: (*evidence.SNP, *snp.LIES),
}


def _told(technology: Technology, lies: Iterable[Lie]) -> Iterator[Entry]:
    for lie in (*evidence.another_simulation(technology), *lies):
        yield Entry(technology=technology, lie=lie)


ENTRIES: tuple[Entry, ...] = tuple(
    entry for technology, lies in LIES.items() for entry in _told(technology, lies)
)


def honest_worlds() -> Mapping[Technology, Told]:
    """Return fresh vendors and platforms, and honest evidence of each."""
    pki = SimulatedPKI.create(CREATED)
    return {
        Technology.SGX: World.honest(pki),
        Technology.TDX: TdxWorld.honest(pki),
        Technology.SEV_SNP: GuestWorld.honest_guest(),
    }
