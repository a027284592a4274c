"""The shape that the style asks for, held by a test."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import s3ml

ROOT = Path(s3ml.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted(path.parent for path in ROOT.rglob("__init__.py"))
MODULE_LIMIT_LINES = 400
FUNCTION_LIMIT_LINES = 50
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}


def name_of(package: Path) -> str:
    return ".".join(("s3ml", *package.relative_to(ROOT).parts))


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


class TestModules:
    @pytest.mark.parametrize("path", MODULES, ids=names)
    def test_it_is_short_and_documented(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MODULE_LIMIT_LINES
        assert path.stem not in VAGUE
        assert ast.get_docstring(ast.parse(text))

    @pytest.mark.parametrize("path", MODULES, ids=names)
    def test_its_functions_are_short(self, path: Path) -> None:
        """A function's docstring is not counted: it is there to be long enough."""
        too_long = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > FUNCTION_LIMIT_LINES:
                    too_long.append(f"{node.name}: {lines}")
        assert too_long == []

    def test_nothing_is_left_unfinished(self) -> None:
        marks = re.compile(r"NotImplementedError|TODO|FIXME|XXX|for now\b|placeholder|\bstub\b")
        found = [
            f"{names(path)}: {line.strip()}"
            for path in MODULES
            for line in path.read_text(encoding="utf-8").splitlines()
            if marks.search(line)
        ]
        assert found == []


class TestPackages:
    @pytest.mark.parametrize("package", PACKAGES, ids=names)
    def test_what_it_promises_is_there(self, package: Path) -> None:
        module = importlib.import_module(name_of(package))
        assert module.__doc__
        promised = getattr(module, "__all__", [])
        assert list(promised) == sorted(
            set(promised), key=lambda name: (not name.isupper(), name[0].islower(), name)
        )
        for name in promised:
            assert getattr(module, name) is not None
