"""Fuzz for long: `python -m tests.attestation.fuzz SECONDS [TARGET …]`; with `flips`, every signed bit."""

import sys

from tests.fuzzing import engine


def flip_every_bit() -> int:
    """Flip every bit of what is signed in every format of a quote."""
    from tests.attestation.corpus.lie import ACCEPTED
    from tests.attestation.fuzz.flips import every_bit, judge_flip, quote_parts
    from tests.attestation.fuzz.formats import formats

    believed = 0
    for name, world in formats().items():
        for part in quote_parts(world):
            flips = list(every_bit(part))
            wrong = [flip for flip in flips if judge_flip(world, *flip).result == ACCEPTED]
            engine.say(f"{name}: {part.name}: {len(flips)} flips, {len(wrong)} accepted {wrong[:8] or ''}")
            believed += len(wrong)
    return 1 if believed else 0


if __name__ == "__main__":
    words = sys.argv[1:]
    is_flips = words == ["flips"]
    sys.exit(
        flip_every_bit() if is_flips else engine.main("tests.attestation.fuzz", "s3ml.attestation", words)
    )
