"""The page about policies says what the code does."""

import re
from pathlib import Path

import pytest

from s3ml.attestation import Alternative, is_narrower_or_equal, parse_policy
from s3ml.attestation.policy.lint import RULES, Severity, lint_policy

PAGE = (Path(__file__).parents[2] / "docs/spec/policy.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class TestExamples:
    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: re.findall(r'tee = "(.*)"', text)[0])
    def test_an_example_is_a_policy_without_errors(self, example: str) -> None:
        policy = parse_policy(example.encode())
        found = {finding.severity for finding in lint_policy(policy)}
        assert found <= ({Severity.NOTE} if policy.is_simulated else set())
        assert is_narrower_or_equal(policy, policy)

    def test_every_kind_of_tee_has_one(self) -> None:
        kinds = {one.tee for example in EXAMPLES for one in parse_policy(example.encode()).accept}
        assert kinds == {"sgx", "tdx", "sev-snp", "simulated"}


class TestTables:
    def test_every_field_is_in_a_table_once(self) -> None:
        tables = PAGE.partition("## Fields")[2].partition("## Order")[0]
        first_cells = re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE)
        named = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
        assert sorted(named) == sorted(Alternative.__struct_fields__)

    def test_every_rule_of_lint_is_in_the_table_with_its_severity(self) -> None:
        told = re.findall(r"^\| (P\d\d) \| (\w+) \|", PAGE, re.MULTILINE)
        assert told == [(rule.number, rule.severity) for rule in RULES]
