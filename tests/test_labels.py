"""Multi-label classification: tables of several labels, predictions with a threshold for each, how
they are measured, and a run from its data to a prediction."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.data.readers.rows import read_rows
from resnets.data.sources import find_data
from resnets.data.splits import read_split, split_csv
from resnets.evaluation.labels import (
    EVALUATOR,
    LabelEvidence,
    average_precision,
    measure,
)
from resnets.kinds.labels import LABELS, THRESHOLD, LabelPrediction
from resnets.kinds.sample import Sample, annotate

# ---- tables


def table(root, text, name="labels.csv"):
    (root / name).write_text(text, encoding="utf-8", newline="")
    return root / name


def labels_of(found):
    return {sample.name: sample.labels for sample in found.samples}


def error_of(*arguments, **options):
    with pytest.raises(ValueError, match=r".") as error:
        find_data(*arguments, **options)
    return str(error.value)


def test_several_labels_in_a_cell(tmp_path):
    text = "file,label\n1.png,b|a\n2.png,a\n3.png,\n4.png, c | b |\n5.png,a|a\n"
    found = find_data(table(tmp_path, text))
    assert found.kind == "labels"
    assert labels_of(found) == {
        "1.png": ("b", "a"),
        "2.png": ("a",),
        "3.png": (),
        "4.png": ("c", "b"),
        "5.png": ("a",),
    }
    assert found.classes == ("a", "b", "c")
    assert found.notes == ("images may have any number of labels: 2 lines of 5 have more than one",)
    one = find_data(table(tmp_path, "file,label\n1.png,a|b\n2.png,a\n"))
    assert one.notes == ("images may have any number of labels: 1 line of 2 has more than one",)


def test_an_empty_cell_is_a_statement_only_where_there_may_be_several(tmp_path):
    path = table(tmp_path, "file,label\n1.png,a\n2.png,\n3.png,b\n")
    message = error_of(path)
    assert "line 3: a file name and a label are needed in every line" in message
    assert message.endswith("--task labels")
    found = find_data(path, kind="labels")
    assert labels_of(found) == {"1.png": ("a",), "2.png": (), "3.png": ("b",)}
    assert found.notes == ("images may have any number of labels: 0 lines of 3 have more than one",)
    assert "line 3: a file name is needed" in error_of(table(tmp_path, "file,label\n1.png,a|b\n,a"))


def test_a_table_of_classes_keeps_the_whole_name(tmp_path):
    path = table(tmp_path, "file,label\n1.png,a|b\n2.png,a\n")
    found = find_data(path, kind="classes")
    assert (found.kind, found.classes, found.notes) == ("classes", ("a", "a|b"), ())
    assert labels_of(found) == {"1.png": ("a|b",), "2.png": ("a",)}


def test_one_hot_columns(tmp_path):
    text = "file,Cat,dog,Never\n1.png,1,0,0\n2.png,1.0,1,0\n3.png,0,0.0,0\n"
    path = table(tmp_path, text)
    found = find_data(path)
    assert (found.kind, found.classes) == ("labels", ("Cat", "dog"))
    assert labels_of(found) == {"1.png": ("Cat",), "2.png": ("Cat", "dog"), "3.png": ()}
    assert found.notes == (
        "images may have any number of labels: 1 line of 3 has more than one",
        "left out, since no line has them: Never",
    )
    rows = read_rows(path)
    assert rows.one_hot == ("Cat", "dog", "Never")
    assert [row.label for row in rows.rows] == ["Cat", "Cat|dog", ""]


def test_one_hot_columns_with_one_label_in_each_line_are_classes(tmp_path):
    path = table(tmp_path, "file,cat,dog\n1.png,1,0\n2.png,0,1\n")
    found = find_data(path)
    assert (found.kind, found.classes) == ("classes", ("cat", "dog"))
    assert found.notes == ("every line has one label, read as classes; else: --task labels",)
    assert find_data(path, kind="labels").kind == "labels"
    path = table(tmp_path, "file,cat,dog\n1.png,1,1\n2.png,0,0\n")
    assert find_data(path).kind == "labels"


def test_one_hot_columns_are_classes_only_with_exactly_one(tmp_path):
    path = table(tmp_path, "file,cat,dog\n1.png,1,0\n2.png,1,1\n")
    assert error_of(path, kind="classes") == (
        f"{path}, line 3: 2.png is cat, dog; one label is needed in every line; if images may have"
        " several labels or none: --task labels"
    )
    path = table(tmp_path, "file,cat,dog\n1.png,1,0\n2.png,0,0\n")
    assert "line 3: a file name and a label are needed" in error_of(path, kind="classes")


@pytest.mark.parametrize("cell", ["2", "yes", "", "0.5", "-1", "nan", "01"])
def test_a_cell_that_is_neither_nought_nor_one(tmp_path, cell):
    path = table(tmp_path, f"file,Cat,dog\n1.png,1,0\n2.png,{cell},1\n")
    assert error_of(path) == (f"{path}, line 3: Cat is {cell!r}; 0 or 1 is needed for each label")


def test_a_line_that_is_too_short_lacks_its_last_labels(tmp_path):
    path = table(tmp_path, "file,cat,dog\n1.png,1,0\n2.png,1\n")
    assert "line 3: dog is ''" in error_of(path)


@pytest.mark.parametrize(("header", "name"), [("a,b,a", "a"), ("a,b|c,d", "b|c"), ("x,y,z,y", "y")])
def test_names_of_one_hot_columns_differ_and_can_be_told_apart(tmp_path, header, name):
    cells = ",".join("1" for _ in header.split(","))
    path = table(tmp_path, f"file,{header}\n1.png,{cells}\n")
    message = error_of(path)
    assert message.startswith(f"{path}: the column {name} ")
    assert "labels need different names" in message


@pytest.mark.parametrize("line", ["1.png,b,,", "1.png,b,,s", "./1.png,b,,"])
def test_a_file_in_several_lines_has_the_labels_of_all(tmp_path, line):
    path = table(tmp_path, f"file,label,split,group\n1.png,a,,\n2.png,b,,\n{line}\n1.png,a,,\n")
    if line.endswith("s"):
        assert "line 4: 1.png is b, s, and in line 2 it is a;" in error_of(path, kind="labels")
        return
    found = find_data(path, kind="labels")
    assert labels_of(found) == {"1.png": ("a", "b"), "2.png": ("b",)}
    assert "joined: 2 lines repeating another" in found.notes
    message = error_of(path)
    assert "is b, and in line 2 it is a;" in message
    assert message.endswith("--task labels")


def test_lines_that_say_the_same_are_no_contradiction(tmp_path):
    found = find_data(table(tmp_path, "file,label\n1.png,a|b\n2.png,\n1.png,a|b\n"))
    assert labels_of(found) == {"1.png": ("a", "b"), "2.png": ()}
    assert "left out: 1 line repeating another" in found.notes
    message = error_of(table(tmp_path, "file,label\n1.png,a|b\n1.png,a\n"))
    assert "line 3: 1.png is a, and in line 2 it is a|b" in message


@pytest.mark.parametrize(
    "text",
    [
        "file,label,split,group\n1.png,a|b,train,g\n2.png,,val,h\n",
        "split,file,a,group,b\ntrain,1.png,1,g,1\nval,2.png,0,h,0\n",
    ],
)
def test_splits_and_groups_are_no_labels(tmp_path, text):
    found = find_data(table(tmp_path, text))
    assert found.classes == ("a", "b")
    assert labels_of(found) == {"1.png": ("a", "b"), "2.png": ()}
    assert [(one.split, one.group) for one in found.samples] == [("train", "g"), ("val", "h")]


def test_bars_that_separate_columns_separate_no_labels(tmp_path):
    found = find_data(table(tmp_path, "file|label\n1.png|a\n2.png|b\n"))
    assert (found.kind, found.classes) == ("classes", ("a", "b"))
    found = find_data(table(tmp_path, 'file|label\n1.png|"a|b"\n2.png|b\n'))
    assert (found.kind, labels_of(found)["1.png"]) == ("labels", ("a", "b"))
    found = find_data(table(tmp_path, "file|a|b\n1.png|1|1\n2.png|0|1\n"))
    assert labels_of(found) == {"1.png": ("a", "b"), "2.png": ("b",)}


@pytest.mark.parametrize("form", ["a|{}\n2.png,{}", "a|{}\n2.png,b|{}"])
def test_letters_have_one_form(tmp_path, form):
    names = [unicodedata.normalize(one, "é") for one in ("NFD", "NFC")]
    found = find_data(table(tmp_path, f"file,label\n1.png,{form.format(*names)}\n"))
    assert found.samples[0].labels == ("a", "é")
    assert "é" in found.samples[1].labels
    assert any("written in several ways: é" in note for note in found.notes)
    one_hot = find_data(table(tmp_path, f"file,{names[0]},b\n1.png,1,1\n2.png,1,0\n"))
    assert one_hot.classes == ("b", "é")


def test_spellings_of_one_label_count_once_in_an_image(tmp_path):
    names = [unicodedata.normalize(one, "é") for one in ("NFD", "NFC")]
    found = find_data(table(tmp_path, f"file,label\n1.png,{'|'.join(names)}\n2.png,b\n"))
    assert found.samples[0].labels == ("é",)


@pytest.mark.parametrize(
    "text",
    [
        "file_name,width,height\na/1.png,640,480\nb/2.png,640,480\n",
        "file_name,score,flag\na/1.png,0.3,1\nb/2.png,0.1,0\n",
        "file_name,flag\na/1.png,1\nb/2.png,0\n",
        "camera,a,b\nx,1,0\n",
    ],
)
def test_other_numbers_beside_images_are_no_labels(tmp_path, text):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    table(tmp_path, text, "metadata.csv")
    found = find_data(tmp_path)
    assert (found.reader, found.kind, found.classes) == ("folders", "classes", ("a", "b"))
    assert found.notes == ("metadata.csv is not used: it has no columns file_name and label",)


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "b"), ("a|b",), ("b", "a"), ('"', ",", "")])
def test_a_split_is_read_again_with_all_labels(tmp_path, labels):
    samples = [
        Sample(tmp_path / "1.png", "1.png", annotate(*labels), "train"),
        Sample(tmp_path / "2.png", "2.png", annotate("a"), "val", "g"),
    ]
    (tmp_path / "split.csv").write_text(split_csv(samples))
    assert read_split(tmp_path / "split.csv") == samples


CELLS = st.sampled_from(["1.png", "2.png", "a", "b|c", "|", "0", "1", "1.0", "", " ", '"', "2"])


@settings(max_examples=200, deadline=None)
@given(
    header=st.sampled_from(["file,label", "file,a,b", "file,A,split,b", "file|a|b"]),
    lines=st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=4),
    kind=st.sampled_from([None, "labels", "classes"]),
)
def test_any_cells_are_labels_or_a_message_that_names_the_file(
    header, lines, kind, tmp_path_factory
):
    path = table(tmp_path_factory.getbasetemp(), "\n".join([header, *lines]), "any.csv")
    found, message = None, ""
    try:
        found = find_data(path, kind=kind)
    except ValueError as error:
        message = str(error)
    if found is None:
        assert message.startswith(str(path))
        return
    assert kind in (None, found.kind)
    for sample in found.samples:
        assert all(label and label == label.strip() for label in sample.labels)
        assert len(sample.labels) == len(set(sample.labels))
        assert found.kind == "labels" or len(sample.labels) == 1


# ---- the kind

NAMES = ("cat", "dog", "fox")


def prediction(*probabilities, thresholds=(0.5, 0.5, 0.5), **more):
    return LabelPrediction(
        "1.png",
        NAMES,
        np.array(probabilities, np.float32),
        thresholds=np.array(thresholds, np.float32),
        **more,
    )


def sample(*labels):
    return Sample(Path("x/1.png"), "1.png", annotate(*labels))


@pytest.mark.parametrize(
    "wrong",
    [
        [0.5, 0.5],
        [0.5] * 4,
        [0.5, 0.5, float("nan")],
        [0.5, 0.5, float("inf")],
        [0.5, 0.5, 1.01],
        [0.5, 0.5, -0.01],
        [0.5, 0.5, 10**400],
        [0.5, 0.5, "0.5"],
        [0.5, 0.5, True],
        [0.5, 0.5, None],
        "0.5",
        "",
        {},
        {"cat": 0.5},
        0.5,
        0,
        False,
    ],
    ids=repr,
)
def test_thresholds_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="3 numbers between 0 and 1 are needed, one for each"):
        LABELS.options({"thresholds": wrong}, NAMES)


@pytest.mark.parametrize("good", [[0, 0.25, 1], (0.0, 0.25, 1.0)])
def test_thresholds_are_those_of_the_file(good):
    found = LABELS.options({"thresholds": good}, NAMES)["thresholds"]
    assert found.dtype == np.float32
    assert found.tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("values", [{}, {"smoothing": 0.1}, {"thresholds": []}, {"thresholds": ()}])
def test_thresholds_that_were_not_chosen_are_one_half(values):
    assert LABELS.options(values, NAMES)["thresholds"].tolist() == [THRESHOLD] * 3


def test_ground_truth_has_any_number_of_labels():
    truths = LABELS.ground_truth([sample(), sample("fox", "cat"), sample("dog", "dog")], NAMES)
    assert [truth.labels for truth in truths] == [(), ("cat", "fox"), ("dog",)]
    assert [truth.probabilities.tolist() for truth in truths] == [[0, 0, 0], [1, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="does not know: cow; it knows: cat, dog, fox"):
        LABELS.ground_truth([sample("cat", "cow")], NAMES)


def test_a_label_is_given_from_its_threshold_on():
    found = prediction(0.5, 0.499, 0.3, thresholds=(0.5, 0.5, 0.25))
    assert found.labels == ("cat", "fox")
    assert found.given.tolist() == [True, False, True]
    assert found.rows() == [{"labels": "cat|fox", "probabilities": "0.5000|0.3000"}]
    assert tuple(found.rows()[0]) == tuple(LabelPrediction.columns)
    assert repr(found) == "LabelPrediction('1.png', ('cat', 'fox'))"
    none = prediction(0.1, 0.1, 0.1)
    assert (none.labels, none.rows()) == ((), [{"labels": "", "probabilities": ""}])
    np.testing.assert_array_equal(found.by_class(), found.probabilities)


def test_an_error_has_no_labels():
    found = LabelPrediction("1.png", NAMES, error="cut off")
    assert (found.labels, found.given.tolist()) == ((), [False] * 3)
    assert found.rows() == [{"labels": None, "probabilities": None}]
    assert repr(found) == "LabelPrediction('1.png', error='cut off')"


@pytest.mark.parametrize("thresholds", [None, np.zeros(2, np.float32), np.zeros((1, 3))])
def test_a_prediction_without_a_threshold_for_each_label_cannot_be(thresholds):
    with pytest.raises(ValueError, match=r"1\.png: thresholds of shape .* for 3 labels"):
        LabelPrediction("1.png", NAMES, np.zeros(3, np.float32), thresholds=thresholds)


def test_unbatch_gives_each_image_its_thresholds_and_maps():
    outputs = {
        "probabilities": np.array([[0.9, 0.1, 0.4], [0.1, 0.1, 0.1]], np.float32),
        "embedding": np.ones((2, 5), np.float32),
        "heat": np.ones((2, 3, 2, 2), np.float32),
    }
    options = LABELS.options({"thresholds": [0.5, 0.5, 0.3]}, NAMES)
    first, second = LABELS.unbatch(outputs, ["a.png", "b.png"], NAMES, options)
    assert (first.file, first.labels, second.labels) == ("a.png", ("cat", "fox"), ())
    assert first.heat.shape == (3, 2, 2)
    light = first.light()
    assert (light.embedding, light.heat, light.labels) == (None, None, first.labels)


def test_images_agree_that_are_given_the_same_labels():
    options = LABELS.options({"thresholds": [0.5, 0.5, 0.3]}, NAMES)
    expected = {"probabilities": np.array([[0.9, 0.1, 0.4], [0.6, 0.4, 0.1]], np.float32)}
    same = {"probabilities": np.array([[0.8, 0.2, 0.3], [0.55, 0.45, 0.2]], np.float32)}
    other = {"probabilities": np.array([[0.9, 0.1, 0.29], [0.6, 0.4, 0.1]], np.float32)}
    assert LABELS.differences(same, expected, options).agreeing == 2
    found = LABELS.differences(other, expected, options)
    assert found.agreeing == 1  # though the most probable label of both is the same
    assert found.values == pytest.approx({"probability": 0.11}, abs=1e-6)


def findings(*labels):
    return {one.text: one.severity for one in LABELS.check([sample(*one) for one in labels], [])}


def test_the_check_names_labels_of_every_image():
    found = findings(("a", "b"), ("a",), ("a", "c"))
    text = "labels of every image, so that there is nothing to tell apart: a"
    assert found == {text: "warning"}
    assert findings() == {}


def test_the_check_names_labels_that_never_or_always_meet():
    together = [("a", "b")] * 5 + [("c",)] * 15 + [()] * 2
    found = findings(*together)
    assert found == {
        "labels that always occur together: a and b": "warning",
        "2 of 22 images have no label": "note",
    }, "5 * 15 < 5 * 22: that they never meet may be chance"
    found = findings(*[("a", "b")] * 10, *[("a",)], *[("c",)] * 15)
    assert found == {"labels that never occur together: a and c; b and c": "note"}


def test_the_check_names_labels_that_look_like_classes():
    found = findings(*[("a",)] * 12, *[("b",)] * 12)
    assert found == {
        "no image has two labels; if they exclude one another: --task classes. Pairs: a and b": (
            "note"
        )
    }


def test_no_more_pairs_are_named_than_can_be_read():
    (text,) = findings(*[(name,) for name in "abcdef"] * 40)
    assert text.endswith(" and 5 more pairs")
    assert text.count(" and ") == 11


# ---- metrics


def reference(truth, scores, weights=None):
    """`average_precision_score` of scikit-learn, as its documentation defines it: the sum over
    thresholds of (recall - recall before) * precision."""
    weights = np.ones(len(truth)) if weights is None else weights
    total, area, before = (weights * truth).sum(), 0.0, 0.0
    for threshold in sorted(set(scores[weights > 0].tolist()), reverse=True):
        chosen = weights * (scores >= threshold)
        recall = (chosen * truth).sum() / total
        area += (recall - before) * (chosen * truth).sum() / chosen.sum()
        before = recall
    return area


def made(n=60, k=4, seed=0, levels=None):
    """Truth (n, k), probabilities that know something of it, and what is given."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, k)) < 0.35
    scores = np.clip(rng.normal(0.35, 0.2, (n, k)) + 0.3 * truth, 0.001, 0.999)
    if levels:
        scores = np.round(scores * levels) / levels
    probabilities = scores.astype(np.float32)
    return truth, probabilities, probabilities >= 0.5


@pytest.mark.parametrize("levels", [None, 2, 9])
def test_average_precision_is_that_of_the_reference(levels):
    for seed in range(10):
        truth, scores, _ = made(40, 3, seed, levels)
        expected = [reference(truth[:, k], scores[:, k]) for k in range(3)]
        np.testing.assert_allclose(average_precision(truth, scores), expected, rtol=1e-9)


@pytest.mark.parametrize("levels", [None, 5])
def test_average_precision_is_that_of_torchmetrics(levels):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    truth, scores, _ = made(80, 5, 1, levels)
    expected = functional.multilabel_average_precision(
        torch.from_numpy(scores), torch.from_numpy(truth).int(), 5, average="none"
    )
    np.testing.assert_allclose(average_precision(truth, scores), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("levels", [None, 3])
def test_an_image_that_was_drawn_twice_counts_twice(levels):
    truth, scores, _ = made(40, 3, 2, levels)
    rng = np.random.default_rng(3)
    counts = np.stack([rng.multinomial(40, np.full(40, 1 / 40)) for _ in range(12)])
    found = average_precision(truth, scores, counts)
    assert found.shape == (12, 3)
    for row, drawn in zip(found, counts, strict=True):
        repeated = average_precision(truth.repeat(drawn, 0), scores.repeat(drawn, 0))
        np.testing.assert_allclose(row, repeated, rtol=1e-9)
        expected = [reference(truth[:, k], scores[:, k], drawn) for k in range(3)]
        np.testing.assert_allclose(row, expected, rtol=1e-9)


def test_resamples_in_blocks_are_those_in_one_piece(monkeypatch):
    truth, scores, _ = made(30, 2, 4)
    counts = np.random.default_rng(5).integers(0, 3, (50, 30))
    whole = average_precision(truth, scores, counts)
    monkeypatch.setattr("resnets.evaluation.labels.CHUNK", 70)
    np.testing.assert_array_equal(average_precision(truth, scores, counts), whole)


def test_average_precision_of_extremes():
    truth = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], bool)
    equal = average_precision(truth, np.full((4, 3), 0.5))
    assert equal[[0, 2]] == pytest.approx([1, 0.5])  # one tie
    assert np.isnan(equal[1])
    assert average_precision(truth, truth.astype(float))[2] == 1


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_a_naive_count(seed):
    truth, probabilities, given_ = made(seed=seed)
    metrics = measure(truth, probabilities, given_, list("abcd"))
    exact, f1 = [], []
    for i in range(len(truth)):
        exact.append(truth[i].tolist() == given_[i].tolist())
    for k in range(4):
        pairs = Counter(zip(truth[:, k].tolist(), given_[:, k].tolist(), strict=True))
        right, missed, wrong = pairs[True, True], pairs[True, False], pairs[False, True]
        f1.append(2 * right / (2 * right + missed + wrong))
        entry = metrics.per_class[k]
        assert (entry.name, entry.n) == ("abcd"[k], right + missed)
        assert entry.f1 == pytest.approx(f1[k])
        assert entry.recall.value == pytest.approx(right / (right + missed))
        assert entry.precision.value == pytest.approx(right / (right + wrong))
        assert (entry.recall.n, entry.precision.n) == (right + missed, right + wrong)
        expected = reference(truth[:, k], probabilities[:, k])
        assert entry.average_precision.value == pytest.approx(expected)
    means = [reference(truth[:, k], probabilities[:, k]) for k in range(4)]
    assert metrics.map.value == pytest.approx(np.mean(means))
    assert metrics.macro_f1.value == pytest.approx(np.mean(f1))
    assert metrics.exact_matches.value == pytest.approx(np.mean(exact))
    chosen = np.where(truth, probabilities, 1 - probabilities.astype(float))
    assert metrics.loss == pytest.approx(-np.log(chosen).sum(1).mean())
    assert list(metrics.numbers) == ["map", "macro_f1", "exact_matches"]


def test_intervals_enclose_what_many_images_give():
    """Of thirty parts of a hundred images, nearly all."""
    truth, probabilities, given_ = made(6000, 3, 6)
    whole = measure(truth[:3000], probabilities[:3000], given_[:3000], "abc")
    inside = Counter()
    for start in range(3000, 6000, 100):
        part = slice(start, start + 100)
        found = measure(truth[part], probabilities[part], given_[part], "abc")
        for name, one in found.numbers.items():
            assert one.low <= one.value <= one.high
            inside[name] += one.low <= whole.numbers[name].value <= one.high
    assert all(count >= 24 for count in inside.values()), inside


def test_groups_make_intervals_wider():
    truth, probabilities, given_ = (one.repeat(10, 0) for one in made(30, 3, 7))
    alone = measure(truth, probabilities, given_, "abc")
    grouped = measure(truth, probabilities, given_, "abc", np.arange(300) // 10)
    for name, one in grouped.numbers.items():
        assert one.value == pytest.approx(alone.numbers[name].value)
        assert one.high - one.low > 2 * (alone.numbers[name].high - alone.numbers[name].low)


def test_a_label_of_no_image_counts_in_no_mean():
    truth, probabilities, given_ = made(seed=8)
    truth[:, 1] = given_[:, 1] = False
    metrics = measure(truth, probabilities, given_, list("abcd"))
    kept = [0, 2, 3]
    fewer = measure(truth[:, kept], probabilities[:, kept], given_[:, kept], list("acd"))
    assert metrics.map == fewer.map
    assert metrics.macro_f1 == fewer.macro_f1
    assert metrics.unmeasured == ["b"]
    assert set(metrics.per_class[1].estimates.values()) == {None}
    assert metrics.per_class[1].f1 == 0
    given_[3, 1] = True
    wrong = measure(truth, probabilities, given_, list("abcd"))
    assert wrong.map == fewer.map
    assert wrong.macro_f1.value == pytest.approx(fewer.macro_f1.value * 3 / 4)
    assert wrong.per_class[1].precision.value == 0


def test_a_label_of_all_images():
    truth, probabilities, given_ = made(seed=9)
    truth[:, 0] = True
    entry = measure(truth, probabilities, given_, list("abcd")).per_class[0]
    assert entry.average_precision.value == 1
    assert entry.average_precision.low < 1
    assert entry.precision.value == 1


@pytest.mark.parametrize("labels", [[1, 0, 1], [0, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize("said", [[1, 0, 1], [0, 0, 0]])
@pytest.mark.parametrize("groups", [None, np.array(["a"])])
def test_one_image_has_numbers_and_wide_intervals(labels, said, groups):
    truth, given_ = np.array([labels], bool), np.array([said], bool)
    metrics = measure(truth, given_ * np.float32(0.9), given_, "abc", groups)
    assert metrics.n == 1
    assert metrics.unmeasured == [name for name, one in zip("abc", labels, strict=True) if not one]
    for one in metrics.numbers.values():
        assert 0 <= one.low <= one.value <= one.high <= 1
        assert one.high - one.low > 0.5
    plain = metrics.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_images_without_any_label_measure_no_ranking():
    none = np.zeros((5, 3), bool)
    metrics = measure(none, np.full((5, 3), 0.1, np.float32), none, "abc")
    assert (metrics.map.value, metrics.map.low, metrics.map.high, metrics.map.n) == (0, 0, 1, 0)
    assert (metrics.macro_f1.value, metrics.macro_f1.n) == (0, 0)
    assert metrics.exact_matches.value == 1


def test_the_worst_images_are_those_with_a_mistake_and_the_highest_loss():
    rows = [  # truth, probabilities
        ([1, 0], [0.9, 0.1]),  # right
        ([1, 0], [0.4, 0.1]),
        ([1, 1], [0.2, 0.1]),
        ([0, 0], [0.1, 0.6]),
    ]
    evidence = [
        LabelEvidence(
            np.array(t, bool), np.array(p, np.float32), np.array(p) >= 0.5, np.full(2, 0.5)
        )
        for t, p in rows
    ]
    assert EVALUATOR.worst(evidence).tolist() == [2, 3, 1]
    many = EVALUATOR.worst(evidence * 40)
    assert len(many) == 60
    assert set((many % 4).tolist()) == {2, 3}


def test_a_row_says_what_was_missed_and_what_is_wrong():
    (truth,) = LABELS.ground_truth([sample("cat", "dog")], NAMES)
    assert EVALUATOR.row(truth, prediction(0.1, 0.9, 0.8)) == {
        "labels": "cat|dog",
        "predicted": "dog|fox",
        "missed": "cat",
        "wrong": "fox",
    }
    assert set(EVALUATOR.row(truth, truth).values()) == {"cat|dog", ""}


def test_a_network_that_ranks_like_chance_is_doubted():
    truth, probabilities, given_ = made(200, 3, 10)
    half = np.full(3, 0.5)
    evidence = [LabelEvidence(*one, half) for one in zip(truth, probabilities, given_, strict=True)]
    chance = truth.mean(0).mean()
    (text,) = EVALUATOR.doubts([{"val_map": chance + 0.02}], evidence, "abc")
    assert f"{chance:.1%}" in text
    assert not EVALUATOR.doubts([{"val_map": 0.1, "val_map_ema": 0.8}], evidence, "abc")
    none = [one._replace(truth=np.zeros(3, bool)) for one in evidence]
    assert EVALUATOR.doubts([{"val_map": 0.0}], none, "abc")
