import tomllib

import pytest

from s3ml.apps.images.manifest import EnclaveShape, quote, render_manifest
from s3ml.apps.images.plans import PLANS, WITHHELD
from s3ml.attestation.simulated.image import Measured
from s3ml.attestation.simulated.launch import ROLES, Role
from s3ml.keyservice import settings as keyservice_settings
from s3ml.modelserver import settings as modelserver_settings
from s3ml.primitives.errors import ConfigurationError
from tests.images.images_world import FILES, SHAPE, TEMPLATE, honest

KNOWN_SETTINGS: dict[Role, tuple[str, ...]] = {
    "key-service": keyservice_settings.KNOWN,
    "model-server": modelserver_settings.KNOWN,
}


class TestRendering:
    """The text depends on role, shape and files alone."""

    def test_the_order_in_which_files_were_found_changes_nothing(self) -> None:
        template = TEMPLATE.read_text(encoding="utf-8")
        backwards = dict(reversed(FILES.items()))
        assert render_manifest(template, "key-service", SHAPE, backwards) == honest()

    def test_files_are_in_the_order_of_their_bytes(self) -> None:
        files = {path: Measured(sha256="0" * 64, size_bytes=0) for path in ("b", "B", "a/b", "a.b", "é")}
        manifest = tomllib.loads(render_manifest(TEMPLATE.read_text(), "key-service", SHAPE, files))
        names = [file["uri"].removeprefix("file:/opt/s3ml/") for file in manifest["sgx"]["trusted_files"]]
        assert names == ["B", "a.b", "a/b", "b", "é"]

    def test_a_changed_byte_changes_it(self) -> None:
        changed = {**FILES, "launch.py": Measured(sha256="f" * 64, size_bytes=1)}
        text = render_manifest(TEMPLATE.read_text(), "key-service", SHAPE, changed)
        assert text != honest()

    @pytest.mark.parametrize(
        "shape",
        [
            EnclaveShape(enclave_size="1G", threads=32),
            EnclaveShape(enclave_size="512M", threads=33),
            EnclaveShape(enclave_size="512M", threads=32, svn=2),
            EnclaveShape(enclave_size="512M", threads=32, edmm=True),
        ],
    )
    def test_every_number_of_the_shape_is_in_it(self, shape: EnclaveShape) -> None:
        sgx = tomllib.loads(honest(shape=shape))["sgx"]
        assert (sgx["enclave_size"], sgx["max_threads"], sgx["isvsvn"], sgx["edmm_enable"]) == (
            shape.enclave_size,
            shape.threads,
            shape.svn,
            shape.edmm,
        )

    def test_roles_differ_by_product(self) -> None:
        products = {role: tomllib.loads(honest(role))["sgx"]["isvprodid"] for role in ROLES}
        assert products == {"key-service": 1, "model-server": 2}

    def test_an_interpreter_without_a_shared_library_preloads_none(self) -> None:
        files = {path: measured for path, measured in FILES.items() if "libpython" not in path}
        manifest = tomllib.loads(render_manifest(TEMPLATE.read_text(), "key-service", SHAPE, files))
        assert "LD_PRELOAD" not in manifest["loader"]["env"]

    @pytest.mark.parametrize("template", ["{{ nothing }}", "{% for %}", "{{ role | missing }}"])
    def test_a_broken_template_is_refused(self, template: str) -> None:
        with pytest.raises(ConfigurationError, match="cannot be rendered"):
            render_manifest(template, "key-service", SHAPE, FILES)


class TestQuoting:
    """A name cannot leave its string."""

    @pytest.mark.parametrize("text", ['a"b', "a\\b", "é", "a'b", "{{ role }}", ""])
    def test_what_is_quoted_is_read_back(self, text: str) -> None:
        assert tomllib.loads(f"a = {quote(text)}") == {"a": text}

    @pytest.mark.parametrize("text", ["a\nb", "a\x7f", "\0"])
    def test_control_characters_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="printable"):
            quote(text)


class TestShape:
    @pytest.mark.parametrize("size", ["", "512", "3G", "0G", "512m", "1T", "1G ", "-1G", "1048576M"])
    def test_a_size_that_no_enclave_has_is_refused(self, size: str) -> None:
        with pytest.raises(ConfigurationError, match="power of two"):
            EnclaveShape(enclave_size=size, threads=32)

    @pytest.mark.parametrize(("threads", "svn"), [(3, 1), (1025, 1), (32, 0), (32, 65_536)])
    def test_a_number_out_of_range_is_refused(self, threads: int, svn: int) -> None:
        with pytest.raises(ConfigurationError, match="expected"):
            EnclaveShape(enclave_size="1G", threads=threads, svn=svn)


class TestSettings:
    """What a process can be told, the image fixes, passes on, or withholds: nothing is forgotten."""

    @pytest.mark.parametrize("role", list(ROLES))
    def test_every_setting_was_decided_on(self, role: Role) -> None:
        plan = PLANS[role]
        decided = {*plan.passed, *WITHHELD, *(name for name in plan.fixed if name.startswith("S3ML_"))}
        assert decided == set(KNOWN_SETTINGS[role]), (
            "decide in apps/images/plans.py whether the host may set it: only where no trust depends on it"
        )

    @pytest.mark.parametrize("role", list(ROLES))
    def test_none_is_decided_twice(self, role: Role) -> None:
        plan = PLANS[role]
        assert len({*plan.passed, *plan.fixed, *WITHHELD}) == len(plan.passed) + len(plan.fixed) + len(
            WITHHELD
        )

    def test_every_role_has_a_plan(self) -> None:
        assert PLANS.keys() == ROLES.keys()
