"""docs/spec/evidence.md names every claim and every step that the verifier knows."""

from pathlib import Path

import pytest

from s3ml.attestation.verify.amd.roots import PINNED
from s3ml.attestation.verify.steps import STEPS

PAGE = (Path(__file__).parents[2] / "docs" / "spec" / "evidence.md").read_text(encoding="utf-8")
CLAIMS = sorted(claim for _, claims in STEPS for claim in claims)


class TestPage:
    @pytest.mark.parametrize("claim", CLAIMS)
    def test_it_names_the_claim(self, claim: str) -> None:
        assert f"`{claim}`" in PAGE.replace("`rtmr0` to `rtmr3`", "`rtmr0` `rtmr1` `rtmr2` `rtmr3`")

    @pytest.mark.parametrize(("number", "title"), [(n, title) for n, (title, _) in enumerate(STEPS, start=1)])
    def test_it_has_the_step(self, number: int, title: str) -> None:
        assert f"\n{number}. **{title}" in PAGE

    @pytest.mark.parametrize("digest", PINNED)
    def test_it_has_the_root(self, digest: str) -> None:
        assert digest in PAGE

    def test_each_claim_belongs_to_one_step(self) -> None:
        assert len(CLAIMS) == len(set(CLAIMS))
