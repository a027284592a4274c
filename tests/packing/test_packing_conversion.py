"""A scikit-learn model is packed as ONNX where both say the same, and refused with figures where not."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3ml.apps.packing.conversion import check_samples, compare, convert
from s3ml.apps.packing.estimator import is_estimator, load_estimator
from s3ml.primitives.errors import ConfigurationError
from tests.packing.conftest import LABELS, ROWS

PATH = Path("model.joblib")
Saved = Callable[..., Path]


class TestLoading:
    """A pickle runs only where its owner says that they made it."""

    @pytest.mark.parametrize("name", ["m.joblib", "m.pkl", "m.pickle"])
    def test_a_pickle_is_not_run_unasked(self, saved: Saved, name: str) -> None:
        path = saved(name)

        with pytest.raises(ConfigurationError, match="runs the code in it, with your rights"):
            load_estimator(path, trusts_source=False)
        assert load_estimator(path, trusts_source=True).predict(ROWS[:1]).shape == (1,)

    def test_the_code_of_a_refused_pickle_does_not_run(self, tmp_path: Path) -> None:
        class Attack:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "owned",)

        (tmp_path / "m.pkl").write_bytes(pickle.dumps(Attack()))
        with pytest.raises(ConfigurationError):
            load_estimator(tmp_path / "m.pkl", trusts_source=False)

        assert not (tmp_path / "owned").exists()

    def test_data_loads_without_trust(self, saved: Saved) -> None:
        assert load_estimator(saved("m.skops"), trusts_source=False).predict(ROWS[:1]).shape == (1,)

    def test_types_that_skops_does_not_know_need_trust(self, saved: Saved) -> None:
        from sklearn.tree import DecisionTreeClassifier

        path = saved("m.skops", DecisionTreeClassifier().fit(ROWS, LABELS))
        with pytest.raises(ConfigurationError, match=r"got sklearn\.tree\._tree\.Tree: say --trust-source"):
            load_estimator(path, trusts_source=False)
        assert load_estimator(path, trusts_source=True).get_depth() > 0

    @pytest.mark.parametrize(
        ("name", "said"), [("m.pkl", "cannot be loaded"), ("m.skops", "is no skops file")]
    )
    def test_damaged_files_are_told(self, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / name).write_bytes(b"garbage")

        with pytest.raises(ConfigurationError, match=said):
            load_estimator(tmp_path / name, trusts_source=True)

    @pytest.mark.parametrize("name", ["m.pkl", "m.skops"])
    def test_absent_files_are_told(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
            load_estimator(tmp_path / name, trusts_source=True)

    def test_what_is_no_model_is_refused(self, saved: Saved) -> None:
        with pytest.raises(ConfigurationError, match="expected a scikit-learn model, got dict"):
            load_estimator(saved("m.joblib", {"a": 1}), trusts_source=True)

    def test_another_version_of_scikit_learn_is_refused(self, saved: Saved, classifier: Any) -> None:
        state = classifier.__getstate__()

        class Old(type(classifier)):  # type: ignore[misc]
            def __reduce__(self) -> tuple[Any, ...]:
                return type(classifier), (), {**state, "_sklearn_version": "0.24.0"}

        with pytest.raises(ConfigurationError, match=r"was saved by scikit-learn 0\.24\.0, this is"):
            load_estimator(saved("m.joblib", Old()), trusts_source=True)

    @pytest.mark.parametrize(("name", "module"), [("m.skops", "skops"), ("m.skops", "sklearn.base")])
    def test_a_missing_extra_is_one_clear_line(
        self, saved: Saved, name: str, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = saved(name)
        for loaded in [one for one in sys.modules if one == module or one.startswith(f"{module}.")]:
            monkeypatch.setitem(sys.modules, loaded, None)

        with pytest.raises(ConfigurationError, match=r"pip install 's3ml\[convert\]'"):
            load_estimator(path, trusts_source=False)

    def test_a_model_is_known_by_its_ending(self, saved: Saved, onnx_file: Path) -> None:
        assert is_estimator(saved("M.JOBLIB"))
        assert not is_estimator(onnx_file)
        assert not is_estimator(onnx_file.parent)


def fitted(kind: str) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    texts = np.array(["left", "right"])[LABELS]
    models: dict[str, Callable[[], Any]] = {
        "classifier": lambda: LogisticRegression().fit(ROWS, LABELS),
        "text labels": lambda: LogisticRegression().fit(ROWS, texts),
        "pipeline": lambda: make_pipeline(
            StandardScaler(), MLPClassifier((8,), max_iter=2000, random_state=0)
        ).fit(ROWS, LABELS),
        "forest": lambda: RandomForestClassifier(10, random_state=0).fit(ROWS, LABELS),
        "scores": lambda: LinearSVC().fit(ROWS, LABELS),
        "regressor": lambda: Ridge().fit(ROWS, ROWS[:, 0]),
        "several targets": lambda: Ridge().fit(ROWS, ROWS[:, :2]),
        "trees": lambda: GradientBoostingRegressor(random_state=0).fit(ROWS, ROWS[:, 0]),
        "outliers": lambda: IsolationForest(n_estimators=20, random_state=0).fit(ROWS),
        "clusters": lambda: KMeans(2, n_init=1, random_state=0).fit(ROWS),
        "transformer": lambda: StandardScaler().fit(ROWS),
    }
    return models[kind]()


class TestConversion:
    """Every output is held against what the source says, on every sample."""

    @pytest.mark.parametrize(
        ("kind", "outputs"),
        [
            ("classifier", {"label": "predict", "probabilities": "predict_proba"}),
            ("text labels", {"label": "predict", "probabilities": "predict_proba"}),
            ("pipeline", {"label": "predict", "probabilities": "predict_proba"}),
            ("forest", {"label": "predict", "probabilities": "predict_proba"}),
            ("scores", {"label": "predict", "probabilities": "decision_function"}),
            ("regressor", {"variable": "predict"}),
            ("several targets", {"variable": "predict"}),
            ("trees", {"variable": "predict"}),
            ("outliers", {"label": "predict", "scores": "decision_function"}),
            ("clusters", {"label": "predict", "scores": "transform"}),
            ("transformer", {"variable": "transform"}),
        ],
    )
    def test_all_kinds_convert(self, kind: str, outputs: dict[str, str]) -> None:
        conversion = convert(fitted(kind), ROWS, path=PATH)

        assert conversion.rows == len(ROWS)
        assert {one.output: one.method for one in conversion.compared} == outputs
        assert all(one.difference < 1e-5 for one in conversion.compared)

    def test_scores_that_skl2onnx_turns_around_are_found(self) -> None:
        """Of an SVC of two classes, skl2onnx 1.20 gives both scores with the wrong sign."""
        from sklearn.svm import SVC

        model = SVC().fit(ROWS, LABELS)
        scores = model.decision_function(ROWS)
        with pytest.raises(
            ConfigurationError, match="probabilities: differs from decision_function"
        ) as refused:
            convert(model, ROWS, path=PATH)
        assert abs(scores).max() > 0.1
        assert "(allowed: 0.0001)" in str(refused.value)

    def test_a_tighter_tolerance_refuses_what_fp32_cannot_hold(self) -> None:
        with pytest.raises(ConfigurationError, match=r"variable: differs from predict by up to .*e-0"):
            convert(fitted("regressor"), ROWS, path=PATH, tolerance=1e-12)

    def test_what_cannot_be_converted_is_told_in_one_line(self) -> None:
        from sklearn.semi_supervised import LabelSpreading

        with pytest.raises(ConfigurationError, match="skl2onnx cannot convert it") as refused:
            convert(LabelSpreading().fit(ROWS, LABELS), ROWS, path=PATH)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300

    def test_samples_of_another_width_are_told(self, classifier: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"predict_proba fails on the samples: X has 3 features"):
            convert(classifier, ROWS[:, :3], path=PATH)

    def test_an_estimator_that_says_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="predicts or transforms"):
            convert(object(), ROWS, path=PATH)

    @pytest.mark.parametrize(
        "samples", [ROWS[0], ROWS[:0], np.array([["a"]]), np.full((1, 4), np.nan), np.full((1, 4), 1e300)]
    )
    def test_samples_are_rows_of_finite_numbers(self, samples: Any) -> None:
        with pytest.raises(ConfigurationError, match="samples: expected"):
            check_samples(samples, path=PATH)

    def test_a_missing_converter_is_one_clear_line(
        self, classifier: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "skl2onnx", None)

        with pytest.raises(ConfigurationError, match=r"pip install 's3ml\[convert\]'"):
            convert(classifier, ROWS, path=PATH)


class TestComparing:
    """One wrong label among many refuses a model; numbers have a tolerance."""

    def check(self, got: Any, expected: Any, *, method: str = "predict", tolerance: float = 1e-4) -> float:
        arrays = {"y": np.asarray(got)}
        (one,) = compare(arrays, {method: np.asarray(expected)}, path=PATH, tolerance=tolerance)
        return one.difference

    def test_one_wrong_label_is_one_too_many(self) -> None:
        with pytest.raises(ConfigurationError, match=r"y: 25\.00% of the samples are not what predict says"):
            self.check([1, 2, 3, 4], [1, 2, 3, 5])

    def test_text_is_compared_with_text(self) -> None:
        assert self.check(np.array([b"gr\xc3\xbcn"], object), ["grün"]) == 0

    def test_labels_without_predict_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"100\.00%"):
            self.check([1], [1], method="transform")

    def test_large_numbers_are_compared_by_ratio(self) -> None:
        assert self.check([1000.05], [1000.0]) == pytest.approx(5e-5)
        with pytest.raises(ConfigurationError):
            self.check([1000.2], [1000.0])

    @pytest.mark.parametrize("got", [[np.nan, 0.0], [np.inf, 0.0]])
    def test_numbers_that_are_none_are_refused(self, got: list[float]) -> None:
        with pytest.raises(ConfigurationError, match="up to inf"):
            self.check(got, [0.0, 0.0])

    def test_another_count_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="up to inf"):
            self.check([0.5], [0.5, 0.5])

    def test_every_output_that_differs_is_named(self) -> None:
        arrays = {"a": np.array([0.5]), "b": np.array([3])}
        with pytest.raises(ConfigurationError, match=r"a: differs .*; b: 100\.00%"):
            compare(arrays, {"predict": np.array([1.0])}, path=PATH, tolerance=1e-4)
