"""Ask the witnesses to cosign a head: all at once, until the quorum has.

Where a witness is found is the host's to say; which cosignatures count is said by the log alone. A witness
that knows a longer log than ours, or another one, shows that ours is not the newest.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.errors import HaltedError, UncommittedError
from s3ml.keyservice.replaying import View
from s3ml.primitives.errors import S3MLError
from s3ml.transparency.cosignature import has_quorum, verified_cosignatures, with_cosignatures
from s3ml.transparency.witness.client import WitnessClient, WitnessConflictError, WitnessRefusedError

ATTEMPTS = 4
_FORKED = 422


@dataclass(slots=True)
class _Witness:
    """A witness by its address, and the size that it is believed to know."""

    client: WitnessClient
    known_size: int = 0


class Cosigner:
    """Gathers cosignatures.

    Args:
        urls: Where witnesses listen; addresses, never trust.
        timeout_s: For one exchange with one of them, in seconds.
    """

    def __init__(self, urls: Sequence[str], *, timeout_s: float) -> None:
        self._witnesses = [_Witness(WitnessClient(url, timeout_s)) for url in urls]
        self._threads = ThreadPoolExecutor(max_workers=max(1, 2 * len(urls)), thread_name_prefix="witness")

    async def cosign(self, view: View, authorities: Sequence[Authority]) -> str:
        """Return the checkpoint of `view` with a quorum of each of `authorities`.

        Args:
            view: A stored head; its checkpoint may carry cosignatures already.
            authorities: What governs at that head, and what governed at the committed one before it.

        Raises:
            UncommittedError: too few cosigned in time; asking again is safe.
            HaltedError: likewise, and witnesses know a longer log or another one.
        """
        note, failures = view.checkpoint, []
        if _is_complete(note, authorities):
            return note
        loop = asyncio.get_running_loop()
        asked = {
            asyncio.ensure_future(loop.run_in_executor(self._threads, _ask, witness, view))
            for witness in self._witnesses
        }
        keys = list({key: None for authority in authorities for key in authority.witnesses})
        try:
            while asked:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    found = one.result()
                    if isinstance(found, S3MLError):
                        failures.append(found)
                    else:
                        note = with_cosignatures(note, found, keys)
                if _is_complete(note, authorities):
                    return note
        finally:
            for one in asked:
                one.cancel()
        raise _incomplete(view, note, authorities, failures)

    def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for witness in self._witnesses:
            witness.client.close()


def _is_complete(note: str, authorities: Sequence[Authority]) -> bool:
    return all(has_quorum(verified_cosignatures(note, one.witnesses), one.quorum) for one in authorities)


def _ask(witness: _Witness, view: View) -> tuple[str, ...] | S3MLError:
    """Ask one witness, from the size that it knows; a conflict tells that size."""
    failure: S3MLError = UncommittedError(f"witness {witness.client.url}: keeps changing its mind")
    for _ in range(ATTEMPTS):
        known = witness.known_size if witness.known_size <= view.size else 0
        proof = view.tree.consistency(known, view.size) if 0 < known < view.size else ()
        try:
            lines = witness.client.add_checkpoint(old_size=known, proof=proof, note=view.checkpoint)
        except WitnessConflictError as error:
            if error.known_size > view.size or error.known_size == known:
                return error
            witness.known_size, failure = error.known_size, error
        except S3MLError as error:
            return error
        else:
            witness.known_size = view.size
            return lines
    return failure


def _incomplete(
    view: View, note: str, authorities: Sequence[Authority], failures: Sequence[S3MLError]
) -> UncommittedError | HaltedError:
    """Say what is missing, and whether the witnesses contradict this log.

    So many that the others make no quorum: fewer may lie, or be new, and an outage is no fork.
    """
    newest = authorities[0]
    count = len(verified_cosignatures(note, newest.witnesses))
    said = (
        f"{count} of {newest.quorum} witnesses cosigned the head of {view.size} entries "
        f"({newest.quorum} of {len(newest.witnesses)} are needed)"
    )
    ahead = [e for e in failures if isinstance(e, WitnessConflictError) and e.known_size > view.size]
    forked = [e for e in failures if isinstance(e, WitnessRefusedError) and e.status == _FORKED]
    spare = len(newest.witnesses) - newest.quorum
    if len(ahead) + len(forked) > spare:
        sizes = ", ".join(str(error.known_size) for error in ahead) or "another log"
        return HaltedError(
            f"key service: {said}: witnesses know {sizes}: this database is a fork, or older than what was "
            "committed: point every replica at the newest database"
        )
    why = "; ".join(sorted(str(error) for error in failures)) or "no witness is configured"
    return UncommittedError(f"key service: {said}: {why}", retry_after_s=1.0)
