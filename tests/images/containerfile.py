"""The rules of the container's recipe, as far as its text shows them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_SECRET = re.compile(r"KEY|PASS|SECRET|TOKEN|CREDENTIAL", re.ASCII)
_PIPED = re.compile(r"\b(curl|wget)\b|\|\s*(ba|da|z)?sh\b", re.ASCII)
_SOURCE = "${BASE_NAME}@${BASE_DIGEST}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    text: str


def parse(text: str) -> list[Instruction]:
    """Return the instructions of a recipe, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", lines)
    pairs = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [Instruction(name=name.upper(), text=" ".join(rest.split())) for name, _, rest in pairs]


def stages(recipe: list[Instruction]) -> list[list[Instruction]]:
    """Return the instructions of each stage, its FROM first."""
    found: list[list[Instruction]] = []
    for instruction in recipe:
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def pinned_base(recipe: list[Instruction]) -> Iterator[str]:
    """Every stage begins with one image, by a digest that has to be given."""
    yield from (i.text for i in recipe if i.name == "FROM" and i.text.partition(" AS ")[0] != _SOURCE)
    before = [i.text for i in recipe[: next((n for n, i in enumerate(recipe) if i.name == "FROM"), 0)]]
    if before != ["BASE_NAME", "BASE_DIGEST"]:
        yield f"arguments without defaults before the first FROM: {before}"


def two_stages(recipe: list[Instruction]) -> Iterator[str]:
    """What builds is not what runs."""
    if [stage[0].text.rpartition(" ")[2] for stage in stages(recipe)] != ["build", "runtime"]:
        yield "stages: build, runtime"


def no_download(recipe: list[Instruction]) -> Iterator[str]:
    """Nothing comes from an address; packages come by their names."""
    yield from (
        i.text
        for i in recipe
        if i.name == "ADD" or "://" in i.text or (i.name == "RUN" and _PIPED.search(i.text))
    )


def no_moving_tag(recipe: list[Instruction]) -> Iterator[str]:
    """Nothing is the latest."""
    yield from (i.text for i in recipe if "latest" in i.text)


def no_root(recipe: list[Instruction]) -> Iterator[str]:
    """What runs is nobody's administrator, by number."""
    users = [i.text for i in stages(recipe)[-1] if i.name == "USER"]
    if not users or not re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", users[-1]):
        yield f"USER: {users}"


def no_secret(recipe: list[Instruction]) -> Iterator[str]:
    """No argument and no variable holds a secret."""
    yield from (i.text for i in recipe if i.name in {"ARG", "ENV"} and _SECRET.search(i.text.upper()))


def measured_only(recipe: list[Instruction]) -> Iterator[str]:
    """The runtime stage gets what was measured, and nothing of the sources."""
    wanted = [
        "--from=build /image/code /opt/s3ml",
        "--from=build /image/enclave.manifest /opt/enclave/enclave.manifest",
    ]
    copied = [i.text for i in stages(recipe)[-1] if i.name == "COPY"]
    if copied != wanted:
        yield f"COPY: {copied}"


def linted(recipe: list[Instruction]) -> Iterator[str]:
    """The manifest is checked where it is made."""
    if not any("s3ml image lint /image/enclave.manifest" in i.text for i in recipe if i.name == "RUN"):
        yield "no lint of the manifest"


def reproducible(recipe: list[Instruction]) -> Iterator[str]:
    """Versions are pinned, and no date of today is kept."""
    runs = [i.text for i in recipe if i.name == "RUN"]
    for run in runs:
        if "apt-get install" in run and not (
            "--no-install-recommends" in run and "gramine=${GRAMINE_VERSION}" in run
        ):
            yield run
        if "pip install" in run and not ("--constraint" in run and "--only-binary :all:" in run):
            yield run
    if not any('--date "@${SOURCE_DATE_EPOCH}"' in run for run in runs):
        yield "dates are not set from SOURCE_DATE_EPOCH"


def fixed_start(recipe: list[Instruction]) -> Iterator[str]:
    """The container starts one program, without a shell."""
    started = [(i.name, i.text) for i in recipe if i.name in {"CMD", "ENTRYPOINT", "SHELL"}]
    if started != [("ENTRYPOINT", '["gramine-sgx", "/signed/enclave"]')]:
        yield f"start: {started}"


RULES: Final[dict[str, Callable[[list[Instruction]], Iterator[str]]]] = {
    rule.__name__: rule
    for rule in (
        fixed_start,
        linted,
        measured_only,
        no_download,
        no_moving_tag,
        no_root,
        no_secret,
        pinned_base,
        reproducible,
        two_stages,
    )
}


def broken(text: str) -> set[str]:
    """Return the names of the rules that a recipe breaks."""
    recipe = parse(text)
    return {name for name, rule in RULES.items() if any(True for _ in rule(recipe))}
