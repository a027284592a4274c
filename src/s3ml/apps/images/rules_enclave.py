"""Rules about the enclave itself: that it is a production enclave, can be attested, and says what it is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from s3ml.apps.images.manifest import SVN_RANGE, THREADS_RANGE, is_size
from s3ml.apps.images.plans import PLANS
from s3ml.apps.images.reading import Reading

_UNSAFE_PREFIXES: Final = ("insecure__", "debug__", "experimental__")
_PROFILING: Final = ("sgx.enable_stats", "sgx.vtune_profile")
_FEATURES: Final = {
    **dict.fromkeys(("avx", "avx512", "amx"), ("unspecified", "disabled", "required")),
    **dict.fromkeys(("mpx", "pkru"), ("disabled", "required")),
}
# Each of these is allowed, or judged by a rule of its own.
_KNOWN: Final = frozenset(
    {
        "fs.mounts",
        "fs.root.type",
        "fs.root.uri",
        "libos.check_invalid_pointers",
        "libos.entrypoint",
        "loader.argv",
        "loader.argv_src_file",
        "loader.entrypoint.sha256",
        "loader.entrypoint.uri",
        "loader.env",
        "loader.env_src_file",
        "loader.log_file",
        "loader.log_level",
        "sgx.allowed_files",
        "sgx.debug",
        "sgx.edmm_enable",
        "sgx.enclave_size",
        "sgx.file_check_policy",
        "sgx.isvprodid",
        "sgx.isvsvn",
        "sgx.max_threads",
        "sgx.remote_attestation",
        "sgx.trusted_files",
        "sgx.use_exinfo",
        "sys.disallow_subprocesses",
        "sys.enable_extra_runtime_domain_names_conf",
        "sys.enable_sigterm_injection",
        "sys.fds.limit",
        "sys.stack.size",
        *_PROFILING,
    }
)
_KNOWN_TABLES: Final = ("sgx.cpu_features.", "sgx.profile.", "sgx.seal_key.")


def known_options(manifest: Reading) -> Iterator[str]:
    """Every option is one that somebody judged."""
    for name in manifest.options():
        if name not in _KNOWN and not name.startswith(_KNOWN_TABLES) and not _is_unsafe(name):
            yield f"{name}: expected an option that is known to be harmless, got this one: leave it out"


def safe_options(manifest: Reading) -> Iterator[str]:
    """No option that Gramine itself calls insecure, experimental or for debugging."""
    for name in filter(_is_unsafe, manifest.options()):
        yield f"{name}: expected none of {', '.join(_UNSAFE_PREFIXES)} options, got one: leave it out"


def production(manifest: Reading) -> Iterator[str]:
    """The enclave cannot be debugged: its host could read everything."""
    yield from _exactly(manifest, "sgx.debug", expected=False)


def profiling(manifest: Reading) -> Iterator[str]:
    """Nothing is counted or sampled, because that needs threads that opt in to debugging."""
    for name in _PROFILING:
        yield from _off(manifest, name)
    enable = manifest.option("sgx.profile.enable")
    if enable is not None and enable != "none":
        yield f'sgx.profile.enable: expected "none", got {enable!r}'


def attestation(manifest: Reading) -> Iterator[str]:
    """The enclave can be quoted; without, nobody can verify it."""
    yield from _exactly(manifest, "sgx.remote_attestation", expected="dcap")


def product(manifest: Reading) -> Iterator[str]:
    """The product id says whose manifest this is."""
    if manifest.plan() is None:
        known = " or ".join(f"{plan.product_id} ({role})" for role, plan in PLANS.items())
        yield f"sgx.isvprodid: expected {known}, got {manifest.option('sgx.isvprodid')!r}"


def security_version(manifest: Reading) -> Iterator[str]:
    """The security version is said, so that it can be raised."""
    yield from _within(manifest, "sgx.isvsvn", *SVN_RANGE)


def enclave_size(manifest: Reading) -> Iterator[str]:
    """The size is said, and one that an enclave can have. It is measured."""
    size = manifest.option("sgx.enclave_size")
    if not (isinstance(size, str) and is_size(size)):
        yield f"sgx.enclave_size: expected a power of two such as 512M or 2G, got {size!r}"


def threads(manifest: Reading) -> Iterator[str]:
    """The number of threads is said. It is measured."""
    yield from _within(manifest, "sgx.max_threads", *THREADS_RANGE)


def dynamic_memory(manifest: Reading) -> Iterator[str]:
    """It is said whether memory is added at run time: that changes the measurement."""
    value = manifest.option("sgx.edmm_enable")
    if not isinstance(value, bool):
        yield f"sgx.edmm_enable: expected true or false, got {value!r}"


def sealing_key(manifest: Reading) -> Iterator[str]:
    """The sealing key covers all attributes: with weaker masks, a debug enclave would get the same key."""
    if manifest.option("sgx.seal_key") is not None:
        yield "sgx.seal_key: expected none, so that the key covers all attributes, got masks: leave them out"


def exceptions(manifest: Reading) -> Iterator[str]:
    """Faults do not tell the application where they happened: traces of it would leave the enclave."""
    yield from _off(manifest, "sgx.use_exinfo")


def processor_features(manifest: Reading) -> Iterator[str]:
    """Features of the processor are named as Gramine names them."""
    features = manifest.option("sgx.cpu_features")
    for name, value in features.items() if isinstance(features, dict) else ():
        if value not in _FEATURES.get(name, ()):
            yield f"sgx.cpu_features.{name}: expected a known feature and value, got {value!r}"


def _is_unsafe(name: str) -> bool:
    return any(part.startswith(_UNSAFE_PREFIXES) for part in name.split("."))


def _exactly(manifest: Reading, name: str, *, expected: str | bool) -> Iterator[str]:
    got = manifest.option(name)
    if got != expected or type(got) is not type(expected):
        yield f"{name}: expected {expected!r}, got {got!r}"


def _off(manifest: Reading, name: str) -> Iterator[str]:
    got = manifest.option(name)
    if got is not None and got is not False:
        yield f"{name}: expected false, got {got!r}"


def _within(manifest: Reading, name: str, least: int, most: int) -> Iterator[str]:
    got: Any = manifest.option(name)
    if type(got) is not int or not least <= got <= most:
        yield f"{name}: expected {least} to {most}, got {got!r}"


ENCLAVE_RULES: Final[Mapping[str, Callable[[Reading], Iterator[str]]]] = {
    "attestation": attestation,
    "dynamic-memory": dynamic_memory,
    "enclave-size": enclave_size,
    "exceptions": exceptions,
    "known-options": known_options,
    "processor-features": processor_features,
    "product": product,
    "production": production,
    "profiling": profiling,
    "safe-options": safe_options,
    "sealing-key": sealing_key,
    "security-version": security_version,
    "threads": threads,
}
