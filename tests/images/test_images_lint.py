"""Every rule of a manifest has a manifest that breaks exactly that rule."""

import re

import pytest

from s3ml.apps.images.lint import RULES, lint_manifest
from s3ml.apps.images.manifest import EnclaveShape
from s3ml.apps.images.reading import MANIFEST_LIMIT_BYTES
from s3ml.attestation.simulated.launch import Role
from s3ml.primitives.errors import ConfigurationError
from tests.images.images_world import ROOT, honest

CODE_MOUNT = '{ path = "/opt/s3ml", uri = "file:/opt/s3ml" },'
TMP_MOUNT = '{ type = "tmpfs", path = "/tmp" },'
FIRST_FILE = f'{{ uri = "file:/opt/s3ml/bin/python3", sha256 = "{0:064x}" }},'
DEBUG = "debug = false"
LISTEN = "S3ML_LISTEN = { passthrough = true }"
LOG = 'loader.log_level = "error"'
SYS = "[sys]"

# The rule, what is replaced in an honest manifest, and by what.
LIES: list[tuple[str, str, str]] = [
    ("attestation", '"dcap"', '"none"'),
    ("attestation", 'remote_attestation = "dcap"\n', ""),
    ("production", DEBUG, "debug = true"),
    ("production", f"{DEBUG}\n", ""),
    ("production", DEBUG, "debug = 0"),
    ("profiling", DEBUG, f"{DEBUG}\nenable_stats = true"),
    ("profiling", DEBUG, f"{DEBUG}\nvtune_profile = true"),
    ("profiling", DEBUG, f'{DEBUG}\nprofile.enable = "all"'),
    ("profiling", DEBUG, f"{DEBUG}\nenable_stats = []"),
    ("product", "isvprodid = 1", "isvprodid = 3"),
    ("product", "isvprodid = 1", "isvprodid = true"),
    ("product", "isvprodid = 1\n", ""),
    ("security-version", "isvsvn = 1", "isvsvn = 0"),
    ("security-version", "isvsvn = 1\n", ""),
    ("security-version", "isvsvn = 1", "isvsvn = true"),
    ("enclave-size", '"512M"', '"500M"'),
    ("enclave-size", '"512M"', "536870912"),
    ("enclave-size", 'enclave_size = "512M"\n', ""),
    ("threads", "max_threads = 32", "max_threads = 3"),
    ("threads", "max_threads = 32\n", ""),
    ("dynamic-memory", "edmm_enable = false\n", ""),
    ("dynamic-memory", "edmm_enable = false", "edmm_enable = 1"),
    ("sealing-key", DEBUG, f'{DEBUG}\nseal_key.flags_mask = "0xfffffffffffffffd"'),
    ("sealing-key", DEBUG, f"{DEBUG}\nseal_key = {{}}"),
    ("exceptions", DEBUG, f"{DEBUG}\nuse_exinfo = true"),
    ("processor-features", DEBUG, f'{DEBUG}\ncpu_features.pkru = "unspecified"'),
    ("processor-features", DEBUG, f'{DEBUG}\ncpu_features.warp = "required"'),
    ("known-options", DEBUG, f"{DEBUG}\npreheat_enclave = true"),
    ("known-options", DEBUG, f"{DEBUG}\nsomething_new = 1"),
    ("known-options", SYS, f"{SYS}\nallowed_ioctls = [{{ request_code = 1 }}]"),
    ("known-options", LOG, f"{LOG}\nloader.uid = 1000"),
    ("safe-options", LOG, f"{LOG}\nloader.insecure__use_cmdline_argv = true"),
    ("safe-options", LOG, f"{LOG}\nloader.insecure__use_host_env = true"),
    ("safe-options", LOG, f"{LOG}\nloader.insecure__disable_aslr = true"),
    ("safe-options", SYS, f"{SYS}\ninsecure__allow_eventfd = true"),
    ("safe-options", SYS, f"{SYS}\nexperimental__enable_flock = true"),
    ("safe-options", SYS, f'{SYS}\ndebug__mock_syscalls = [{{ name = "getrandom" }}]'),
    ("safe-options", DEBUG, f"{DEBUG}\ninsecure__rpc_thread_num = 4"),
    ("safe-options", "[fs]", '[fs]\ninsecure__keys.default = "00112233445566778899aabbccddeeff"'),
    ("file-check", '"strict"', '"allow_all_but_log"'),
    ("file-check", 'file_check_policy = "strict"\n', ""),
    ("trusted-files", FIRST_FILE, FIRST_FILE.replace("0" * 64, "0" * 63)),
    ("trusted-files", FIRST_FILE, FIRST_FILE.replace("0" * 64, "A" * 64)),
    ("trusted-files", FIRST_FILE, '"file:/opt/s3ml/bin/python3",'),
    ("trusted-files", FIRST_FILE, f'{FIRST_FILE}\n{{ uri = "file:/opt/s3ml/lib/", sha256 = "{0:064x}" }},'),
    ("trusted-files", FIRST_FILE, f'{{ uri = "file:/opt/other", sha256 = "{0:064x}" }},\n{FIRST_FILE}'),
    ("trusted-files", FIRST_FILE, f'{FIRST_FILE}\n{{ uri = "file:/opt/s3ml/c/../d", sha256 = "{0:064x}" }},'),
    ("trusted-files", FIRST_FILE, f"{FIRST_FILE}\n{FIRST_FILE}"),
    ("trusted-files", FIRST_FILE, f"{FIRST_FILE}\n7,"),
    ("allowed-files", '"file:/var/lib/s3ml/",', '"file:/opt/s3ml/",'),
    ("allowed-files", '"file:/var/lib/s3ml/",', '"file:/var/lib/s3ml/", "dev:/dev/fd0",'),
    ("allowed-files", '"file:/var/lib/s3ml/",', '"file:/opt/s3ml/site/s3ml/__init__.py",'),
    ("allowed-files", 'allowed_files = [\n  "file:/var/lib/s3ml/",\n]', 'allowed_files = "file:/"'),
    ("root-folder", 'root = { type = "tmpfs" }\n', ""),
    ("root-folder", '{ type = "tmpfs" }', '{ type = "chroot", uri = "file:/" }'),
    ("mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ path = "/usr", uri = "file:/usr" }},'),
    ("mounts", '"file:/var/lib/s3ml" }', '"file:/etc" }'),
    ("mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "untrusted_shm", path = "/shm", uri = "dev:/dev/shm" }},'),
    ("mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "tmpfs", path = "/dev/attestation" }},'),
    ("mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "tmpfs", path = "/opt/../opt/s3ml" }},'),
    ("mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "tmpfs", path = "/" }},'),
    ("mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "tmpfs", path = "//x" }},'),
    ("mounts", TMP_MOUNT, f"{TMP_MOUNT}\n7,"),
    ("mounts", f"{CODE_MOUNT}\n", ""),
    ("nested-mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "tmpfs", path = "/opt/s3ml/site" }},'),
    ("nested-mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "tmpfs", path = "/opt" }},'),
    ("nested-mounts", CODE_MOUNT, f"{CODE_MOUNT}\n{CODE_MOUNT}"),
    (
        "encrypted-mounts",
        TMP_MOUNT,
        f'{TMP_MOUNT}\n{{ type = "encrypted", path = "/e", uri = "file:/e", key_name = "_sgx_mrsigner" }},',
    ),
    ("encrypted-mounts", TMP_MOUNT, f'{TMP_MOUNT}\n{{ type = "encrypted", path = "/e", uri = "file:/e" }},'),
    (
        "simulation",
        '{ uri = "file:/opt/s3ml/site/s3ml/__init__.py"',
        '{ uri = "file:/opt/s3ml/site/s3ml/attestation/simulated/attester.py"',
    ),
    ("entrypoint", "libos.entrypoint = ", 'libos.entrypoint = "/bin/sh" #'),
    ("entrypoint", f'  {{ uri = "file:/opt/s3ml/launch.py", sha256 = "{1:064x}" }},\n', ""),
    ("entrypoint", f"  {FIRST_FILE}\n", ""),
    ("arguments", '  "-S",\n', ""),
    ("arguments", '  "/opt/s3ml/launch.py",\n', '  "-c",\n  "print()",\n'),
    ("arguments", LOG, f'{LOG}\nloader.argv_src_file = "file:/opt/s3ml/arguments"'),
    ("environment", LOG, f'{LOG}\nloader.env_src_file = "file:/opt/s3ml/environment"'),
    ("environment", "lib/libpython3.11.so.1.0", "lib/other.so"),
    ("environment", 'ORT_DISABLE_TELEMETRY = "1"\n', ""),
    ("environment", 'ORT_DISABLE_TELEMETRY = "1"', 'ORT_DISABLE_TELEMETRY = "0"'),
    ("environment", 'ORT_DISABLE_TELEMETRY = "1"', "ORT_DISABLE_TELEMETRY = { passthrough = true }"),
    ("environment", 'HOME = "/tmp"', 'HOME = "/tmp"\nPYTHONPATH = "/var/lib/s3ml"'),
    ("environment", "/opt/s3ml/runtime:", "/var/lib/s3ml:"),
    ("host-settings", LISTEN, f"{LISTEN}\nPATH = {{ passthrough = true }}"),
    ("host-settings", LISTEN, f"{LISTEN}\nLD_AUDIT = {{ passthrough = true }}"),
    ("host-settings", LISTEN, f"{LISTEN}\nS3ML_SERVICE = {{ passthrough = true }}"),
    ("host-settings", LISTEN, "S3ML_LISTEN = { passthrough = false }"),
    ("host-settings", LISTEN, "S3ML_LISTEN = { value = 7 }"),
    (
        "host-settings",
        'LD_PRELOAD = "/opt/s3ml/lib/libpython3.11.so.1.0"',
        "LD_PRELOAD = { passthrough = true }",
    ),
    ("tee-setting", LISTEN, f"{LISTEN}\nS3ML_SIMULATED_PLATFORM = {{ passthrough = true }}"),
    ("tee-setting", LISTEN, f'{LISTEN}\nS3ML_SIMULATED_PLATFORM = "/quote.sock"'),
    ("library-os", LOG, f'{LOG}\nloader.entrypoint.uri = "file:/usr/lib/libsysdb.so"'),
    ("library-os", LOG, f'{LOG}\nloader.entrypoint.uri = "file:x"\nloader.entrypoint.sha256 = "{0:064x}"'),
    ("pointer-checks", LOG, f"{LOG}\nlibos.check_invalid_pointers = false"),
    ("gramine-log", LOG, 'loader.log_level = "trace"'),
    ("gramine-log", f"{LOG}\n", ""),
    ("gramine-log", LOG, f'{LOG}\nloader.log_file = "/var/lib/s3ml/log"'),
    ("stop-signal", "enable_sigterm_injection = true", "enable_sigterm_injection = false"),
    ("stop-signal", "enable_sigterm_injection = true\n", ""),
    ("one-process", "disallow_subprocesses = true", "disallow_subprocesses = false"),
    ("one-process", "disallow_subprocesses = true\n", ""),
]


def lie(old: str, new: str) -> bytes:
    manifest = honest()
    assert manifest.count(old) >= 1
    return manifest.replace(old, new, 1).encode()


class TestHonestManifests:
    """What is rendered keeps every rule."""

    @pytest.mark.parametrize("role", ["key-service", "model-server"])
    @pytest.mark.parametrize("edmm", [False, True])
    def test_it_keeps_every_rule(self, role: Role, *, edmm: bool) -> None:
        shape = EnclaveShape(enclave_size="4G", threads=64, svn=7, edmm=edmm)
        assert lint_manifest(honest(role, shape).encode()) == []

    def test_it_still_does_after_gramine_filled_in_its_defaults(self) -> None:
        filled = honest().replace(
            LOG,
            f'{LOG}\nloader.entrypoint = {{ uri = "file:/usr/lib/libsysdb.so", sha256 = "{5:064x}" }}',
        )
        filled = filled.replace(
            DEBUG,
            f"{DEBUG}\nenable_stats = false\nuse_exinfo = false\n"
            'cpu_features = { avx = "unspecified", avx512 = "unspecified", amx = "unspecified", '
            'mpx = "disabled", pkru = "disabled" }',
        )
        assert lint_manifest(filled.encode()) == []

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (LISTEN, 'S3ML_LISTEN = "0.0.0.0:443"'),
            (LISTEN, 'S3ML_LISTEN = { value = "0.0.0.0:443" }'),
            (
                TMP_MOUNT,
                (
                    f'{TMP_MOUNT}\n{{ type = "encrypted", path = "/e", uri = "file:/e", '
                    'key_name = "_sgx_mrenclave" },'
                ),
            ),
            ('allowed_files = [\n  "file:/var/lib/s3ml/",\n]\n', ""),
            ('LD_PRELOAD = "/opt/s3ml/lib/libpython3.11.so.1.0"\n', ""),
            (DEBUG, f'{DEBUG}\nprofile.enable = "none"'),
            (LOG, f"{LOG}\nlibos.check_invalid_pointers = true"),
        ],
    )
    def test_a_narrower_one_keeps_them_too(self, old: str, new: str) -> None:
        assert lint_manifest(lie(old, new)) == []


class TestRules:
    """Each lie breaks one rule, and is told by its name."""

    @pytest.mark.parametrize(("rule", "old", "new"), LIES)
    def test_a_lie_breaks_exactly_its_rule(self, rule: str, old: str, new: str) -> None:
        assert {finding.rule for finding in lint_manifest(lie(old, new))} == {rule}

    def test_every_rule_has_a_lie(self) -> None:
        assert {rule for rule, _, _ in LIES} == set(RULES)

    def test_every_rule_is_explained(self) -> None:
        page = (ROOT / "docs/spec/gramine-image.md").read_text(encoding="utf-8")
        cells = [line.split("|")[1] for line in page.partition("## Rules")[2].splitlines() if "|" in line]
        explained = {name for cell in cells for name in re.findall(r"`([a-z-]+)`", cell)}
        assert explained == set(RULES)

    def test_a_message_is_one_line_with_expected_and_got(self) -> None:
        for _, old, new in LIES:
            for finding in lint_manifest(lie(old, new)):
                assert "expected" in finding.message
                assert "got" in finding.message
                assert "\n" not in finding.message

    def test_an_empty_manifest_is_refused(self) -> None:
        broken = {finding.rule for finding in lint_manifest(b"")}
        assert {"attestation", "production", "product", "trusted-files", "arguments", "mounts"} <= broken

    @pytest.mark.parametrize(
        "text",
        [
            "loader = 7",
            "[loader]\nenv = 7",
            '[loader]\nentrypoint = "file:libsysdb.so"',
            "[fs]\nmounts = 7",
            "[sgx]\ntrusted_files = 7\ncpu_features = 7",
        ],
    )
    def test_a_manifest_of_odd_types_is_refused(self, text: str) -> None:
        assert "production" in {finding.rule for finding in lint_manifest(text.encode())}


class TestReading:
    """What is no manifest is an error of the input."""

    @pytest.mark.parametrize("data", [b"=", b"\xff", b"a = 1\na = 2"])
    def test_what_is_no_toml_is_refused(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="expected TOML"):
            lint_manifest(data)

    def test_what_is_too_long_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="at most"):
            lint_manifest(b"#" * (MANIFEST_LIMIT_BYTES + 1))

    def test_deep_nesting_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="expected TOML"):
            lint_manifest(b"a = " + b"[" * 100_000)
