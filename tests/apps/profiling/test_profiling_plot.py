"""The picture of a profile: every kind of profile can be drawn, and says what it shows."""

import importlib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from s3ml.apps.profiling import plot
from s3ml.apps.profiling.plot import check_plot, draw_profile
from s3ml.bundle import Resources
from s3ml.bundle.profile import Profile, Suggestion
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.profiles import paging, point, profile

ALONE = Suggestion(batching=None, resources=Resources(memory_bytes=1, threads=1), memory_margin=0.1)


class TestDrawing:
    """A file appears, whole, in the format of its ending."""

    @pytest.mark.parametrize(
        "shown",
        [
            profile(),
            profile(points=(point(), point(2)), suggestion=ALONE),
            profile(points=(point(working_set_bytes=None),), suggestion=ALONE),
            profile(suggestion=ALONE),
            profile(paging=paging()),
            profile(paging=paging(points=paging().points[:1], page_cost_s=None)),
        ],
        ids=["batches", "threads", "no pages", "no batching", "paging", "paging untold"],
    )
    def test_a_picture_is_written(self, tmp_path: Path, shown: Profile) -> None:
        draw_profile(shown, tmp_path / "profile.png")
        draw_profile(shown, tmp_path / "profile.svg")
        assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")
        root = ET.fromstring((tmp_path / "profile.svg").read_bytes())  # noqa: S314 - our own file
        assert root.tag.endswith("svg")

    def test_the_same_profile_gives_the_same_picture(self, tmp_path: Path) -> None:
        for name in ("a.svg", "b.svg"):
            draw_profile(profile(), tmp_path / name)
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


class TestRefusals:
    """One line that says what to do."""

    @pytest.mark.parametrize("name", ["profile", "profile.pdf", "svg"])
    def test_other_formats_are_rejected(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"expected a file that ends in \.svg or \.png"):
            check_plot(Path(name))

    def test_a_missing_library_names_its_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def import_module(name: str) -> ModuleType:
            if name.startswith("matplotlib"):
                raise ModuleNotFoundError(name)
            return importlib.import_module(name)

        monkeypatch.setattr(plot, "importlib", type("", (), {"import_module": staticmethod(import_module)}))
        with pytest.raises(ConfigurationError, match=r"pip install 's3ml\[plots\]'"):
            draw_profile(profile(), tmp_path / "profile.svg")

    def test_a_folder_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            draw_profile(profile(), tmp_path / "none" / "profile.svg")
