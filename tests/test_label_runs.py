"""Thresholds of labels, and a run of a multi-label classifier from its data to a prediction."""

import csv
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from test_cli import only_json, refused
from test_cli import resnets as command
from test_predict import Done
from test_report import browser  # noqa: F401

import resnets
from resnets.data.sources import find_data
from resnets.data.splits import read_split, split_csv
from resnets.kinds.labels import THRESHOLD
from resnets.kinds.sample import Sample, annotate
from resnets.modelfile import load_model, read_model, write_model
from resnets.run import resume
from resnets.runtime.engines import ENGINES
from resnets.runtime.onnxfile import read_onnx, seal, write_onnx
from resnets.tasks.labels import EDGE, MultiLabel, best_threshold, best_thresholds
from resnets.training.recipes import RECIPES

# ---- thresholds


def f1_at(truth, probabilities, threshold):
    given_ = probabilities >= np.float32(threshold)
    return 2 * (given_ & truth).sum() / (given_.sum() + truth.sum())


def best_f1(truth, probabilities):
    """Over every way to divide the images by a threshold between two probabilities that is not too
    near to 0 or 1; None where there is none."""
    each = sorted({0.0, *map(float, probabilities)})
    cuts = [high for low, high in itertools.pairwise(each) if EDGE <= (low + high) / 2 <= 1 - EDGE]
    return max((f1_at(truth, probabilities, cut) for cut in cuts), default=None)


SHARES = st.one_of(
    st.floats(2**-20, 1, width=32),
    st.sampled_from([0.1, 0.5, 0.9, 1.0]),  # ties
    st.integers(0, 3).map(lambda n: 0.7 + n * 2**-24),  # no room between them
)
IMAGES = st.lists(st.tuples(st.booleans(), SHARES), min_size=1, max_size=30)


def arrays(images):
    truth, probabilities = zip(*images, strict=True)
    return np.array(truth, bool), np.array(probabilities, np.float32)


@settings(max_examples=300, deadline=None)
@given(IMAGES)
def test_no_threshold_has_a_better_f1(images):
    truth, probabilities = arrays(images)
    threshold = best_threshold(truth, probabilities)
    assert 0 < threshold <= 1
    assert threshold == np.float32(threshold), "it is the same in a file and in an engine"
    if not truth.any() or best_f1(truth, probabilities) is None:
        assert threshold == THRESHOLD
        return
    assert f1_at(truth, probabilities, threshold) == best_f1(truth, probabilities)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 1000)), min_size=1, max_size=40))
def test_a_threshold_lies_midway_where_there_is_room(images):
    truth, probabilities = arrays([(one, share / 1000) for one, share in images])
    threshold = best_threshold(truth, probabilities)
    if truth.any() and best_f1(truth, probabilities) is not None:
        assert np.abs(probabilities - threshold).min() > 4e-4
        below, above = probabilities < threshold, probabilities >= threshold
        nearest = probabilities[below].max() if below.any() else 0
        assert threshold == pytest.approx((nearest + probabilities[above].min()) / 2, abs=1e-6)


def test_no_threshold_lies_where_engines_would_decide_differently():
    tiny = np.array([3e-12, 2e-12, 1e-12], np.float32)
    assert best_threshold(np.array([True, False, False]), tiny) == THRESHOLD
    sure = np.float32(1) - np.array([1e-7, 2e-7, 3e-7], np.float32)
    assert best_threshold(np.array([True, False, True]), sure) == pytest.approx(0.5)


def test_of_equally_good_thresholds_the_one_with_most_room_is_taken():
    truth = np.array([1, 1, 0, 1, 1], bool)
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.55], np.float32)
    assert best_threshold(truth, probabilities) == pytest.approx(0.275)  # all: 8 / 9
    truth = np.array([1, 0, 0, 1, 0], bool)  # F1 2/3 after the first, 2/3 after the fourth
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.1], np.float32)
    assert best_threshold(truth, probabilities) == pytest.approx(0.35)


def test_a_label_of_few_images_takes_the_threshold_of_all():
    rng = np.random.default_rng(0)
    truth = rng.random((60, 4)) < 0.4
    truth[:, 1] = False
    truth[:4, 1] = True
    truth[:, 2] = False
    truth[:5, 3], truth[5:, 3] = True, False
    probabilities = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0.01, 0.99).astype(np.float32)
    found = best_thresholds(truth, probabilities)
    common = best_threshold(truth.ravel(), probabilities.ravel())
    alone = [best_threshold(truth[:, k], probabilities[:, k]) for k in range(4)]
    assert found == [alone[0], common, common, alone[3]]
    assert len({alone[0], common, alone[3]}) == 3
    assert best_thresholds(np.zeros((9, 2), bool), probabilities[:9, :2]) == [THRESHOLD] * 2
    assert all(type(one) is float for one in found)


def test_probabilities_that_are_all_equal_are_given_together_or_not_at_all():
    truth = np.arange(10) < 4
    assert best_threshold(truth, np.full(10, 0.6, np.float32)) == pytest.approx(0.3)


# ---- the task


def test_the_loss_is_the_sum_of_what_each_label_costs():
    task, raw = MultiLabel(), torch.tensor([[2.0, -1.0, 0.0], [0.5, 0.0, -3.0]])
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    shares = torch.sigmoid(raw)
    each = -(truth * shares.log() + (1 - truth) * (1 - shares).log())
    found = task.loss(raw, {"labels": truth})
    assert set(found) == {"loss"}
    torch.testing.assert_close(found["loss"], each.sum(1).mean())
    soft = truth * 0.8 + 0.1
    each = -(soft * shares.log() + (1 - soft) * (1 - shares).log())
    smoothed = MultiLabel(smoothing=0.2).loss(raw, {"labels": truth})["loss"]
    torch.testing.assert_close(smoothed, each.sum(1).mean())


def test_targets_are_noughts_and_ones_and_outputs_are_sigmoids():
    task, classes = MultiLabel(), ("a", "b", "c")
    samples = [Sample(Path("x"), "x", annotate(*own)) for own in (("c", "a"), ())]
    targets = task.collate(task.kind.ground_truth(samples, classes))
    assert targets["labels"].dtype == torch.float32
    assert targets["labels"].tolist() == [[1, 0, 1], [0, 0, 0]]
    net = resnets.create_model("resnet20 depths=1-1-1", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        probabilities, *_ = task.inference(net).eval()(images)
        torch.testing.assert_close(probabilities, torch.sigmoid(net(images)))


@pytest.mark.parametrize("start", ["pretrained", "scratch", "tiny"])
def test_recipes_of_labels_crop_less_and_smooth_nothing(start):
    labels, classes = RECIPES["labels", start], RECIPES["classes", start]
    assert labels.smallest > classes.smallest
    assert labels.smoothing == 0
    assert (labels.lr, labels.most, labels.norms) == (classes.lr, classes.most, classes.norms)


# ---- a run

COLOURS = {"Blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 40, 30)}
SETTINGS: dict[str, Any] = {
    "model": "resnet20 depths=1-1-1",
    "epochs": 6,
    "weights": "none",
    "batch_size": 16,
    "lr": 0.05,
    "seed": 3,
    "quiet": True,
}
NOISY = 12  # of how many images one lacks a label, so that some are mistaken


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """120 noisy images of 32 pixels with a patch of each colour that their line names; some with
    none, and some with a line that is wrong."""
    root, rng = tmp_path_factory.mktemp("labels") / "patches", np.random.default_rng(0)
    root.mkdir()
    lines = ["file_name,label,split"]
    for number in range(120):
        pixels = rng.normal(110, 25, (32, 32, 3))
        labels = [name for name in COLOURS if rng.random() < 0.45]
        for name, place in zip(labels, rng.permutation(4).tolist(), strict=False):
            y, x = 16 * (place // 2) + 2, 16 * (place % 2) + 2
            pixels[y : y + 12, x : x + 12] = rng.normal(COLOURS[name], 20, (12, 12, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:03d}.png")
        if number % NOISY == 0:
            labels = ["red"] if labels == ["green"] else ["green"]
        split = "train" if number % 5 < 3 else ("val" if number % 5 == 3 else "test")
        lines.append(f"{number:03d}.png,{'|'.join(labels)},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return resnets.train(data, output=tmp_path_factory.mktemp("runs") / "whole", **SETTINGS)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def files_of(data):
    return sorted(data.glob("*.png"))


def test_it_learns_the_labels(run):
    assert run.model.task.kind.name == "labels"
    assert run.model.classes == tuple(COLOURS)
    assert run.metrics.n == 24
    assert run.metrics.main[0] == "mAP"
    assert run.metrics.map.value > 0.8
    summary = json.loads((run.folder / "summary.json").read_text(), parse_constant=float)
    assert summary["metrics"] == json.loads(json.dumps(run.metrics.to_dict(), allow_nan=False))
    rows = rows_of(run.folder / "results.csv")
    assert {"val_loss", "val_map", "val_map_ema"} <= set(rows[0])


def test_the_thresholds_are_those_of_the_validation_images_in_every_file(run, data):
    best = load_model(run.folder / "weights" / "best.safetensors")
    exported = read_onnx(run.proven.path)
    stored = best.metadata["task"]["thresholds"]
    assert exported.metadata["task"]["thresholds"] == stored
    assert list(run.model.task.thresholds) == stored
    assert exported.options["thresholds"].tolist() == stored
    samples = [one for one in read_split(run.folder / "split.csv") if one.split == "val"]
    assert len(samples) == 24
    truths = best.task.kind.ground_truth(samples, best.classes)
    found = resnets.load(run.proven.path).predict([str(sample.path) for sample in samples])
    probabilities = np.stack([one.probabilities for one in found])
    expected = best_thresholds(np.stack([one.given for one in truths]), probabilities)
    assert stored == pytest.approx(expected, abs=1e-5)
    assert len(set(stored)) == 3


def test_the_report_opens_and_shows_labels_thresholds_and_the_worst_images(run, request):
    page = (run.folder / "report.html").read_text("utf-8")
    titles = re.findall(r"<h2[^>]*>([^<]+)", page)
    assert {"Labels", "Thresholds", "Worst images"} <= set(titles), titles
    assert "so were the options of the task" not in page, "thresholds are those of another part"
    for name in (*COLOURS, "all labels", "mAP"):
        assert name in page
    mistaken = [
        row for row in rows_of(run.folder / "predictions.csv") if row["missed"] + row["wrong"]
    ]
    assert mistaken
    assert page.count('<figure class="case"') == len(mistaken)
    opened, complaints = request.getfixturevalue("browser").new_page(), []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto((run.folder / "report.html").as_uri())
    shown = opened.locator("h2").all_inner_texts()
    assert {"labels", "thresholds", "worst images"} <= {title.strip().lower() for title in shown}
    assert opened.locator("figure.case").count() == len(mistaken)
    opened.close()
    assert complaints == []


def test_predictions_csv_says_what_was_missed_and_what_is_wrong(run):
    rows = rows_of(run.folder / "predictions.csv")
    assert list(rows[0]) == ["file", "labels", "predicted", "missed", "wrong"]
    truth = {s.name: s.labels for s in read_split(run.folder / "split.csv") if s.split == "test"}
    assert {row["file"] for row in rows} == set(truth)
    exact = 0
    for row in rows:
        true, said = (set(row[key].split("|")) - {""} for key in ("labels", "predicted"))
        assert true == set(truth[row["file"]])
        assert set(row["missed"].split("|")) - {""} == true - said
        assert set(row["wrong"].split("|")) - {""} == said - true
        exact += true == said
    assert run.metrics.exact_matches.value == pytest.approx(exact / len(rows))
    assert 0 < exact < len(rows)


def test_val_of_the_file_and_of_the_run_repeats_the_numbers(run, data):
    found = only_json(command("val", run.proven.path, data, "--json"))["metrics"]
    expected = run.metrics.to_dict()
    assert found["n"] == 24
    assert list(found)[:6:2] == ["map", "macro_f1", "exact_matches"]
    for name in ("map", "macro_f1", "exact_matches", "loss"):
        assert found[name] == pytest.approx(expected[name], abs=1e-4)
    assert only_json(command("val", run.folder, "--json"))["metrics"] == json.loads(
        json.dumps(expected)
    )
    said = command("val", run.folder)
    assert (said.code, "Traceback" in said.err) == (0, False)
    for words in ("mAP", "macro F1", "exact matches", "Blue"):
        assert words.lower() in (said.out + said.err).lower()


def test_val_reads_a_table_as_the_model_predicts(run, data, tmp_path):
    """One label in each line, or none: by itself the table would be one of classes, or refused."""
    files = files_of(data)[:6]
    labels = ["Blue", "", *list(COLOURS)[:2], "Blue", ""]
    lines = [f"{file},{label}" for file, label in zip(files, labels, strict=True)]
    table = tmp_path / "one.csv"
    table.write_text("\n".join(["file_name,label", *lines]) + "\n")
    for model in (run.proven.path, run.folder):
        found = only_json(command("val", model, table, "--json"))["metrics"]
        assert found["n"] == 6
        assert "map" in found
    (tmp_path / "folders" / "Blue").mkdir(parents=True)
    shutil.copy(files[0], tmp_path / "folders" / "Blue")
    said = command("val", run.proven.path, tmp_path / "folders")
    assert said.code == 2
    assert "give classes, not labels" in " ".join(said.err.split())


def test_every_engine_gives_the_same_labels(run, data):
    files = [str(file) for file in files_of(data)]
    found = {name: list(resnets.load(run.proven.path, name).predict(files)) for name in ENGINES}
    own = [one.labels for one in resnets.load(run.folder).predict(files)]
    assert len(set(own)) > 4
    assert () in own
    for predictions in found.values():
        assert [one.labels for one in predictions] == own
    assert run.proven.path.stat().st_size > 1000


def table_of(path) -> list[dict[str, Any]]:
    """A table of predictions; an empty cell of CSV may be either."""
    if path.suffix == ".csv":
        return [{key: value or None for key, value in row.items()} for row in rows_of(path)]
    if path.suffix == ".jsonl":
        return list(map(json.loads, path.read_text().splitlines()))
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("shares", [False, True])
def test_tables_of_predictions_and_their_continuation(run, data, tmp_path, suffix, shares):
    files = [*files_of(data)[:14], tmp_path / "broken.png"]
    files[-1].write_bytes(files[0].read_bytes()[:300])
    expected = list(resnets.load(run.proven.path).predict(list(map(str, files))))
    output, words = tmp_path / f"found{suffix}", ["--probs"] if shares else []
    for part in (files[:6], files[:6], files):  # made, nothing to do, continued
        done = command("predict", run.proven.path, *part, "--output", output, *words)
        assert done.code == 0, done.err
        assert len(table_of(output)) == len(part)
    rows = {row["file"]: row for row in table_of(output)}
    assert list(rows) == list(map(str, files))
    columns = ["file", "labels", "probabilities", "error", "notes"]
    columns += [f"p_{name}" for name in COLOURS] if shares else []
    assert () in [one.labels for one in expected if not one.error]
    for one in expected:
        row = rows[one.file]
        assert list(row) == columns
        given_ = "|".join(one.labels)
        if one.error:
            assert (row["labels"], row["probabilities"]) == (None, None)
            assert row["error"] == one.error
        else:
            assert (row["labels"] or "") == given_
            assert row["labels"] == (given_ if suffix != ".csv" else given_ or None)
            numbers = [float(text) for text in (row["probabilities"] or "").split("|") if text]
            np.testing.assert_allclose(numbers, one.probabilities[one.given], atol=5e-5)
        if shares:
            found = [row[f"p_{name}"] for name in COLOURS]
            if one.error:
                assert found == [None] * 3
            else:
                np.testing.assert_array_equal(np.float32(found), one.probabilities)


def test_a_table_is_not_continued_with_other_columns(run, data, tmp_path):
    output = tmp_path / "found.csv"
    words = ("predict", run.proven.path, files_of(data)[0], "--output", output)
    assert command(*words).code == 0
    assert "was made without a column for every class (--probs)" in refused(*words, "--probs")


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_several_labels_in_full(run, data, width):
    files = files_of(data)[:40]
    found = resnets.load(run.proven.path).predict([str(file) for file in files])
    done = Done("predict", run.proven.path, *files, terminal=width)
    header, *lines = done.out.splitlines()
    assert header.split() == ["file", "labels", "probabilities"]
    assert all(cell_len(line) <= width for line in lines)
    place, end = header.index("labels"), header.index("probabilities")
    shown = [line[place:end].strip() for line in lines]
    assert shown == ["|".join(one.labels) for one in found]
    assert "Blue|green|red" in shown


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_says_of_one_image_which_labels_it_has(run, data, width):
    predictor = resnets.load(run.proven.path)
    counts = set()
    for file in files_of(data)[:12]:
        (found,) = predictor.predict(str(file))
        done = Done("predict", run.proven.path, file, terminal=width)
        _, *lines = done.out.splitlines()
        assert all(cell_len(line) <= width for line in lines)
        names = {line.split()[0] for line in lines if "below its threshold" not in line}
        assert names == set(found.labels)
        assert len(lines) == len(COLOURS)
        counts.add(len(names))
    assert len(counts) > 1


def test_maps_are_drawn_of_the_most_probable_label(run, data, tmp_path):
    done = command("predict", run.proven.path, files_of(data)[0], "--heat", tmp_path / "maps")
    assert done.code == 0, done.err
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["000.png.heat.jpg"]


def test_an_export_is_verified(run, tmp_path):
    proven = run.export(tmp_path / "again.onnx")
    assert "verified: ONNX equals PyTorch" in str(proven)
    assert read_onnx(proven.path).metadata["task"] == read_onnx(run.proven.path).metadata["task"]
    found = only_json(command("val", proven.path, "--json"))
    assert found["proof"]["ok"] is True, found


def test_a_resumed_run_ends_in_the_same_bits(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("resnets.run.outcome.export_outcome", lambda *_arguments: run.proven)
    output = tmp_path / "part"
    stopped = resnets.train(
        data, output=output, callbacks=[lambda row: row["step"] >= 13], **SETTINGS
    )
    assert read_model(output / "weights" / "last.safetensors")[1]["checkpoint"]["step"] < 20
    resumed = resume(output, quiet=True)
    for name in ("last", "best"):
        (found, said), (expected, wanted) = (
            read_model(folder / "weights" / f"{name}.safetensors")
            for folder in (output, run.folder)
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
        assert said["task"] == wanted["task"]
    assert resumed.model.task == run.model.task
    assert resumed.model.task != stopped.model.task
    assert resumed.metrics.to_dict() == run.metrics.to_dict()
    for name in ("predictions.csv", "split.csv"):
        assert (output / name).read_bytes() == (run.folder / name).read_bytes()


WRONG = ([0.5], [0.5] * 4, [0.5, 0.5, 1.5], [0.5, 0.5, "0.5"], "0.5", 0.5, {"red": 0.5})


@pytest.mark.parametrize("thresholds", WRONG, ids=repr)
def test_files_whose_thresholds_do_not_fit_their_labels_are_refused(run, tmp_path, thresholds):
    tensors, metadata = read_model(run.folder / "weights" / "best.safetensors")
    task = {**metadata["task"], "thresholds": thresholds}
    path = tmp_path / "altered.safetensors"
    write_model(path, tensors, {**metadata, "task": task})
    said = "3 numbers between 0 and 1 are needed, one for each label"
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: its metadata .*{said}"):
        load_model(path)

    graph = onnx.load(run.proven.path)
    properties = json.loads(graph.metadata_props[0].value)
    del graph.metadata_props[:]
    properties["task"]["thresholds"] = thresholds
    graph.metadata_props.add(key="resnets", value=json.dumps(properties))
    path = tmp_path / "altered.onnx"
    with pytest.raises(ValueError, match=said):
        write_onnx(path, graph.SerializeToString())
    path.write_bytes(seal(graph.SerializeToString()))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: its metadata .*{said}"):
        resnets.load(path)


def test_one_label_that_is_there_or_not(data, tmp_path):
    found = checked(tmp_path / "data", data, ["red" if i % 3 else "" for i in range(48)])
    assert found.code == 2
    run = resnets.train(
        tmp_path / "data", task="labels", output=tmp_path / "run", **{**SETTINGS, "epochs": 1}
    )
    assert run.model.classes == ("red",)
    told = "so were the options of the task, such as thresholds"  # there is no test part
    assert told in (run.folder / "report.html").read_text("utf-8")
    files = [str(file) for file in files_of(data)[:3]]
    found = list(resnets.load(run.proven.path).predict(files))
    assert {one.labels for one in found} <= {(), ("red",)}
    assert [one.probabilities.shape for one in found] == [(1,)] * 3


def test_folders_of_classes_have_no_several_labels(colours, tmp_path):
    with pytest.raises(ValueError, match="folders give classes, not labels"):
        resnets.train(colours, task="labels", output=tmp_path / "run", **SETTINGS)


def test_a_table_of_several_labels_can_be_learnt_as_classes(data, tmp_path):
    checked(tmp_path / "data", data, ["a|b", "a", "b"] * 16)
    samples = find_data(tmp_path / "data", kind="classes").samples
    (tmp_path / "split.csv").write_text(split_csv(samples))
    assert [one.labels for one in read_split(tmp_path / "split.csv")] == [
        ("a|b",),
        ("a",),
        ("b",),
    ] * 16


# ---- the check


def checked(root, data, labels):
    """What the command says of a table that gives the images some labels, by severity."""
    root.mkdir()
    lines = ["file_name,label"]
    for file, own in zip(files_of(data), labels, strict=False):
        shutil.copy(file, root)
        lines.append(f"{file.name},{own}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return command("check", root, "--json")


def test_the_check_names_what_labels_have_of_each_other(data, tmp_path):
    labels = ["all|a|b", "all|a|b", "all|c", "all|c", "all|d"] * 10
    found = only_json(checked(tmp_path / "data", data, labels))
    texts = {finding["text"]: finding["severity"] for finding in found["findings"]}
    always = "labels of every image, so that there is nothing to tell apart: all"
    assert texts[always] == "warning"
    assert texts["labels that always occur together: a and b"] == "warning"
    (apart,) = (text for text in texts if text.startswith("labels that never occur together"))
    assert apart.endswith("a and c; b and c")
    assert texts[apart] == "note"
    assert found["kind"] == "labels"
    assert found["counts"]["all"] == {"a": 20, "all": 50, "b": 20, "c": 20, "d": 10}


def test_the_check_of_an_ambiguous_table_is_refused_with_the_cure(data, tmp_path):
    done = checked(tmp_path / "data", data, ["a", "", "b"] * 5)
    assert (done.code, done.out) == (2, "")
    assert "line 3: a file name and a label are needed" in done.err
    assert done.err.strip().endswith("--task labels")
