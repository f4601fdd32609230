"""The demonstration plants faults in a copy, and only there; the check finds those it can find."""

import numpy as np
import pytest
from PIL import Image

from resnets.data.check import check_images
from resnets.data.sources import find_data, sample_folder
from resnets.data.splits import complete_splits
from resnets.demo.planting import DUPLICATES, WRONG, plant_faults
from resnets.evaluation.accuracy import measure


def names(folder):
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*.jpg")}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant_faults(sample_folder(), tmp_path_factory.mktemp("demo") / "run")


def test_the_sample_has_as_many_tiles_of_each_class():
    found = find_data(sample_folder())
    assert len(found.classes) == 10
    assert set(found.counts()["all"].values()) == {150}
    for sample in found.samples[::100]:
        with Image.open(sample.path) as image:
            assert (image.format, image.size) == ("JPEG", (64, 64))


def test_wrong_labels_keep_their_names(planted):
    source, copy = names(sample_folder()), names(planted.folder)
    copies = {new for new, _ in planted.duplicates}
    assert len(copy) == len(source) + DUPLICATES
    assert copy - source == set(planted.wrong) | copies
    assert len(planted.wrong) == len(source - copy) == WRONG
    for name in planted.wrong:
        label, _, file = name.partition("/")
        assert planted.truth(name) == file.rpartition("_")[0] != label
    assert all(planted.truth(name) == name.partition("/")[0] for name in source & copy)


def test_the_list_says_what_was_planted(planted):
    lines = (planted.folder.parent / "planted.csv").read_text().splitlines()
    assert len(lines) == 1 + WRONG + DUPLICATES + 1
    assert f"{planted.truncated},truncated,{planted.truth(planted.truncated)}," in lines


def test_the_check_finds_files_and_pairs(planted):
    check = check_images(find_data(planted.folder))
    unusable = [
        sample.name
        for sample, fact in zip(check.found.samples, check.facts, strict=True)
        if fact.error
    ]
    assert unusable == [planted.truncated]
    pairs = [set(pair["files"]) for pair in check.to_dict()["pairs"]]
    assert all(set(pair) in pairs for pair in planted.duplicates)
    samples, _ = complete_splits(check.usable(), 0.2, 0)
    parts = {sample.name: sample.split for sample in samples}
    assert all(parts[copy] == parts[one] for copy, one in planted.duplicates)


def test_an_earlier_copy_is_replaced_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    for label in ("a", "b"):
        (source / label).mkdir(parents=True)
        for number in range(30):
            (source / label / f"{label}_{number}.jpg").write_bytes(bytes(100 + number))
    first = plant_faults(source, tmp_path / "run", seed=0)
    (first.folder / "a" / "left over.jpg").touch()
    again = plant_faults(source, tmp_path / "run", seed=1)
    assert first.wrong != again.wrong
    assert len(names(again.folder)) == 60 + DUPLICATES
    assert plant_faults(source, tmp_path / "other", seed=1).wrong == again.wrong
    mine = tmp_path / "mine" / "photos"
    mine.mkdir(parents=True)
    (mine / "a.jpg").touch()
    with pytest.raises(ValueError, match="holds no earlier demonstration"):
        plant_faults(source, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["photos", "a.jpg"]


def test_a_linear_classifier_does_not_solve_the_sample():
    pytest.importorskip("torch")
    from resnets.demo.linear import predict_linear

    found = find_data(sample_folder())
    samples, _ = complete_splits(found.samples, 0.2, 0)
    training, held_out = ([s for s in samples if s.split == part] for part in ("train", "val"))
    probabilities = predict_linear(training, held_out, found.classes)
    labels = np.array([found.classes.index(sample.labels[0]) for sample in held_out])
    assert measure(probabilities, labels, found.classes).accuracy.value < 0.55


def test_cells_are_split_by_their_images(cells):
    found = find_data(cells)
    assert found.counts()["all"] == {"Platelets": 240, "RBC": 700, "WBC": 330}
    samples, _ = complete_splits(found.samples, 0.2, 0)
    groups = {part: {s.group for s in samples if s.split == part} for part in ("train", "val")}
    assert not groups["train"] & groups["val"]
