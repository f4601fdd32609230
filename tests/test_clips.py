"""Clips, from videos in class folders to the prediction of the exported file."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data.check import check_images
from resnets.data.readers.clips import numbered, sources
from resnets.data.sources import find_data
from resnets.data.windows import to_windows
from resnets.evaluation.clips import EVALUATOR
from resnets.evaluation.sections import Case
from resnets.export import ProofFailed, export_model
from resnets.kinds import KINDS
from resnets.kinds.clips import ClipPrediction
from resnets.kinds.sample import Sample, annotate
from resnets.modelfile import Model, describe_network
from resnets.models import Network
from resnets.models.framewise import REACH, SHARPNESS, correlations, quarters
from resnets.models.weights import load_weights
from resnets.preprocessing import Preprocessing
from resnets.runtime import load
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.proof import prove
from resnets.sampling import Sampling
from resnets.tasks import TASKS, make_task
from tests.test_clip import folder, gif

ROOT = Path(__file__).parents[1]
NAMES = ("left", "right")
SMALL = "resnet18 depths=1-1 widths=8-16"
NETWORKS = (
    SMALL,
    f"{SMALL} time=shift",
    f"{SMALL} time=motion",
    f"{SMALL} time=full",
    f"{SMALL} time=2plus1",
)


def moving(count, speed, seed=0, size=32):
    """Images of a pattern that moves by some pixels from one to the next."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 24, 3), np.uint8))
    wide = np.asarray(coarse.resize((4 * size, size), Image.Resampling.BICUBIC))
    middle = 3 * size // 2
    starts = [middle + round((number - count / 2) * speed) for number in range(count)]
    return [Image.fromarray(wide[:, start : start + size]) for start in starts]


def made(network, frames=4, seed=0):
    """A model for clips with random weights."""
    torch.manual_seed(seed)
    parsed, task = Network.parse(network, 2), TASKS["clips"]()
    net = task.build(parsed, 2).eval()
    description = describe_network(parsed, net, 2, 3)
    preprocessing = Preprocessing(size=(32, 24), resize=(36, 27))
    return Model(net, NAMES, preprocessing, description, task, {}, Sampling(frames, 0.5))


def clips_to_prove(frames=4, speed=3):
    return [moving(frames, speed, seed) for seed in range(3)]


# ---- reading


def test_videos_gifs_and_frames_are_one_layout(tmp_path):
    for label in NAMES:
        gif(tmp_path / f"{label}.gif", [1, 2], 100)  # in no class folder
        folder(tmp_path / label / "walk", range(4))
        gif(tmp_path / label / "run.gif", [1, 2], 100)
        (tmp_path / label / "jump.mp4").write_bytes(b"")
        (tmp_path / label / "notes.txt").write_text("")
    found = find_data(tmp_path)
    assert (found.kind, found.reader) == ("clips", "clips")
    assert [sample.name for sample in found.samples[:3]] == [
        "left/jump.mp4",
        "left/run.gif",
        "left/walk",
    ]
    assert found.classes == NAMES
    assert found.left_out == {".txt": 2, ".gif": 2}
    assert any("--format folders" in note for note in found.notes)


def test_parts_are_read_as_those_of_images(tmp_path):
    for part in ("train", "test"):
        for label in NAMES:
            folder(tmp_path / part / label / "walk", range(5))
    found = find_data(tmp_path)
    assert {sample.split for sample in found.samples} == {"train", "test"}
    assert found.samples[0].name == "test/left/walk"


@pytest.mark.parametrize(
    "names",
    [
        ["a/1.jpg", "a/2.jpg", "b/1.jpg"],  # images in class folders
        ["train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "train/b/2.jpg"],
        ["a/x/one.jpg", "a/x/two.jpg", "b/y/three.jpg"],  # of patients
        ["a/x/1.jpg", "a/x/2.jpg", "b/y/1.jpg"],  # too few for a clip
        ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/film.mp4"],  # a film among photos
    ],
)
def test_images_stay_images(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9)).save((tmp_path / name).with_suffix(".jpg"))
        if name.endswith("mp4"):
            (tmp_path / name).with_suffix(".jpg").rename(tmp_path / name)
    assert find_data(tmp_path).kind == "classes"


def test_numbered_photographs_are_no_frames(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a/x", "a/y", "b/x", "b/y"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number, frame in enumerate(moving(5, 2, seed=rng.integers(99))):
            frame.save(tmp_path / "clips" / name / f"{number}.png")
            (other,) = moving(1, 0, seed=rng.integers(9999))
            other.save(tmp_path / "photos" / name / f"{number}.png")
    assert find_data(tmp_path / "clips").kind == "clips"
    assert find_data(tmp_path / "photos").kind == "classes"
    assert find_data(tmp_path / "photos", format="clips").kind == "clips"


def test_what_numbers_in_names_count():
    assert numbered(["0001.jpg", "0002.jpg", "0003.jpg", "0004.jpg"])
    assert numbered([f"frame_{number}.png" for number in range(12)])
    assert not numbered(["a1.jpg", "a2.jpg", "a4.jpg", "a5.jpg"])
    assert not numbered(["a1.jpg", "b2.jpg", "a3.jpg", "a4.jpg"])
    assert not numbered(["1.jpg", "2.jpg", "3.jpg"])


def test_clips_of_one_source_share_a_group():
    names = {
        f"{label}/v_{label}_g{g:02d}_c{c:02d}.avi": label
        for label in NAMES
        for g in range(4)
        for c in range(3)
    }
    groups = sources(names)
    assert groups["left/v_left_g01_c02.avi"] == "v_left_g01"
    assert len(set(groups.values())) == 8
    assert not sources({f"{label}/video_{c}.mp4": label for label in NAMES for c in range(9)})
    assert not sources({f"{label}/{c}.mp4": label for label in NAMES for c in range(9)})


def test_the_check_says_what_cannot_be_read_and_what_is_alike(tmp_path):
    for label in NAMES:
        for number in range(3):
            gif(tmp_path / label / f"{number}.gif", [9, 99, 200], 100) if (
                tmp_path / label
            ).exists() else (tmp_path / label).mkdir()
            folder(tmp_path / label / f"walk{number}", range(0, 200, 50 - number))
    (tmp_path / "left" / "broken.gif").write_bytes(b"GIF89a")
    (tmp_path / "left" / "empty.gif").write_bytes(b"")
    check = check_images(find_data(tmp_path))
    texts = [finding.text for finding in check.findings]
    assert any("empty file (left/empty.gif)" in text for text in texts)
    assert any("left/broken.gif" in text for text in texts)
    assert any("alike, but of different classes" in text for text in texts)
    fact = next(
        f for s, f in zip(check.found.samples, check.facts, strict=True) if s.name == "left/walk0"
    )
    assert (fact.width, fact.height, fact.seconds) == (20, 10, 0.16)
    assert len(fact.digest) == 16


def test_long_videos_become_windows(tmp_path):
    sample = Sample(folder(tmp_path / "a", range(100)), "a", annotate("left"))
    assert to_windows([sample], None) == [sample]
    spans = [one.span for one in to_windows([sample], Sampling(4, 1.0))]
    assert spans == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert len(to_windows([sample], Sampling(4, 1.0), training=True)) == 7
    assert len(to_windows([sample], Sampling(4, 0.1), training=True)) == 8


# ---- what is predicted, and how well


def clip(file, row, span=(0.0, 1.0)):
    return ClipPrediction(file, NAMES, np.array(row, np.float32), span=span)


def test_a_video_is_the_mean_of_its_windows_and_a_table_has_them_all():
    parts = [clip("a.mp4", [0.9, 0.1]), clip("a.mp4", [0.2, 0.8]), clip("a.mp4", [0.7, 0.3])]
    whole = ClipPrediction.joined(parts, [(0, 1), (1, 2), (2, 3)])
    np.testing.assert_allclose(whole.probabilities, [0.6, 0.4], rtol=1e-6)
    assert (whole.label, whole.span, len(whole.windows)) == ("left", (0, 3), 3)
    rows = whole.rows()
    assert [(row["start"], row["end"], row["label"], row["number"], row["of"]) for row in rows] == [
        (0, 1, "left", 1, 4),
        (1, 2, "right", 2, 4),
        (2, 3, "left", 3, 4),
        (0, 3, "left", 4, 4),
    ]
    assert len(ClipPrediction.joined(parts[:1], [(0, 1)]).rows()) == 1
    failed = ClipPrediction("b.mp4", NAMES, error="empty file").rows()
    assert [row["label"] for row in failed] == [None]


def test_accuracy_counts_videos_and_clips_each():
    truths = [clip(name, [1, 0]) for name in ("a", "a", "a", "b")]
    said = [
        clip(name, row)
        for name, row in zip("aaab", [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], strict=True)
    ]
    evidence = [EVALUATOR.compare(*pair) for pair in zip(truths, said, strict=True)]
    numbers = EVALUATOR.measure(evidence, NAMES, None).numbers
    assert (numbers["accuracy"].value, numbers["accuracy"].n) == (0.5, 2)
    assert numbers["clip_accuracy"].value == 0.5
    assert EVALUATOR.quick(evidence).main == 0.5
    joined = [
        ClipPrediction.joined(said[:3], [(0, 1)] * 3),
        ClipPrediction.joined(said[3:], [(0, 1)]),
    ]
    again = [EVALUATOR.compare(*pair) for pair in zip(truths[::3], joined, strict=True)]
    assert EVALUATOR.measure(again, NAMES, None).numbers == numbers
    # the surest clip comes last, so that its place among all clips is not that of its class
    turned = ClipPrediction.joined(said[2::-1], [(0, 1)] * 3)
    found = [EVALUATOR.compare(truths[0], turned), again[1]]
    assert [EVALUATOR.right(one) for one in found] == [True, False]


def test_a_report_speaks_of_videos():
    pairs = [(clip(f"{n}.mp4", [1, 0]), clip(f"{n}.mp4", [0.2, 0.8])) for n in range(3)]
    metrics = EVALUATOR.measure([EVALUATOR.compare(*pair) for pair in pairs], NAMES, None)
    cases = [Case(*pair, thumbnail=b"") for pair in pairs]
    hints = " ".join(section.hint for section in EVALUATOR.sections(metrics, cases))
    assert "fraction of the videos" in hints
    assert "image" not in hints
    assert "activation map" not in hints


# ---- networks


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_take_clips_of_any_length(network):
    net = made(network).net
    for count in (1, 2, 5):
        assert net(torch.randn(2, 3, count, 32, 24)).shape == (2, 2)


@pytest.mark.parametrize("network", NETWORKS)
def test_only_frame_by_frame_is_blind_to_the_order(network):
    torch.manual_seed(0)
    net = made(network).net.double()
    for module in net.modules():  # random, also where a network starts as if nothing moved
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.normal_(module.weight, std=0.2)
    clips = torch.randn(3, 3, 5, 32, 24, dtype=torch.float64)
    alike = torch.allclose(net(clips), net(clips.flip(2)), atol=1e-9)
    assert alike == (network == SMALL)


@pytest.mark.parametrize("network", NETWORKS[:3])
def test_weights_for_images_fit_the_backbone(network):
    task, images = TASKS["clips"](), Network.parse(SMALL, 5).build()
    net = task.build(Network.parse(network, 2), 2)
    assert not load_weights(task.backbone(net), images.state_dict()).adapted
    assert Network.parse(network).for_images == Network.parse(SMALL)
    still = torch.randn(1, 3, 32, 24)
    pooled = images.eval().avgpool(images.forward_features(still)).flatten(1)
    if "shift" not in network:  # of a single image, the neighbours are missing
        torch.testing.assert_close(net.eval().net(still), pooled)


def test_weights_for_images_are_inflated():
    images = Network.parse(SMALL, 2).build().eval()
    net = Network.parse(f"{SMALL} time=full", 2).build().eval()
    loaded = load_weights(net, images.state_dict())
    assert "middle one of a clip" in str(loaded)
    still = torch.randn(1, 3, 32, 24)
    clips = still[:, :, None].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(net(clips), images(still), rtol=1e-4, atol=1e-4)


def test_correlations_find_where_everything_went():
    maps = torch.randn(1, 1, 16, 12, 12)
    moved = torch.roll(maps, (1, -2), (3, 4))
    found = correlations(torch.cat([maps, moved], 1))
    assert found.shape == (1, 1, (2 * REACH + 1) ** 2, 12, 12)
    best = found[0, 0, :, 5, 6].argmax().item()
    assert divmod(best, 2 * REACH + 1) == (REACH + 1, REACH - 2)
    torch.testing.assert_close(found.mean(2), torch.ones(1, 1, 12, 12))


@pytest.mark.parametrize("shape", [(2, 3, 4, 9, 1), (1, 1, 4, 5, 6), (1, 4, 2, 2, 12)])
def test_correlations_are_those_with_shifted_images(shape):
    maps = torch.randn(shape)
    height, width = shape[-2:]
    unit = torch.nn.functional.normalize(maps, dim=2)
    first, second = (unit[:, :-1], unit[:, 1:]) if shape[1] > 1 else (unit, unit)
    around = torch.nn.functional.pad(second, (REACH,) * 4)
    alike = [
        (first * around[..., y : y + height, x : x + width]).sum(2)
        for y in range(2 * REACH + 1)
        for x in range(2 * REACH + 1)
    ]
    expected = torch.softmax(SHARPNESS * torch.stack(alike, 2), 2) * len(alike)
    torch.testing.assert_close(correlations(maps), expected, rtol=1e-4, atol=1e-4)


def test_quarters_are_means_of_their_places():
    maps = torch.arange(6.0).reshape(1, 1, 3, 2)
    assert quarters(maps).tolist() == [[1, 3, 2, 4]]
    assert quarters(torch.ones(2, 5, 1, 1)).shape == (2, 20)


# ---- the file


@pytest.mark.parametrize("network", NETWORKS[:3:2])
def test_a_report_shows_networks_for_images_and_for_clips(network):
    from resnets.run.reporting import _diagram

    assert "<svg" in _diagram(made(network))


@pytest.mark.parametrize("network", NETWORKS)
def test_both_engines_predict_what_the_model_does(network, tmp_path):
    model = made(network)
    proven = export_model(model, tmp_path / "a.onnx", clips_to_prove())
    assert proven.difference < 1e-4
    file = read_onnx(proven.path)
    assert (file.sampling, file.kind.name) == (Sampling(4, 0.5), "clips")
    assert file.golden[0].image.shape == (4, 36, 27, 3)
    for name in ("onnxruntime", "openvino"):
        pytest.importorskip(name)
        predictor = load(proven.path, engine=name)
        assert prove(predictor, file).ok


def test_a_clip_in_another_order_is_refused(tmp_path, monkeypatch):
    model = made(NETWORKS[2])
    export_model(model, tmp_path / "a.onnx", clips_to_prove())
    file = read_onnx(tmp_path / "a.onnx")
    engine = load(tmp_path / "a.onnx").engine

    class Backwards:
        name, version = "backwards", "1"

        def __call__(self, image):
            return engine(np.ascontiguousarray(image[:, ::-1]))

    assert prove(engine, file).ok
    assert not prove(Backwards(), file).ok
    from resnets.export.graph import Front

    honest = Front.together

    def reversed_clip(self, images, frames):
        backwards = self.nodes.constant(np.arange(frames)[::-1].copy(), np.int64)
        return self.nodes.Gather(honest(self, images, frames), backwards, axis=2)

    monkeypatch.setattr(Front, "together", reversed_clip)
    with pytest.raises(ProofFailed, match="input"):
        export_model(model, tmp_path / "b.onnx", clips_to_prove())
    assert not (tmp_path / "b.onnx").exists()


def test_swapped_axes_are_refused(tmp_path, monkeypatch):
    from resnets.export.graph import Front

    honest = Front.together

    def swapped(self, images, frames):
        return self.nodes.Transpose(
            self.nodes.Transpose(honest(self, images, frames), perm=[0, 1, 2, 4, 3]),
            perm=[0, 1, 2, 3, 4],
        )

    monkeypatch.setattr(Front, "together", swapped)
    model = made(NETWORKS[2])
    model.preprocessing = Preprocessing(size=(32, 32), resize=(32, 32))
    with pytest.raises(ProofFailed, match="input"):
        export_model(model, tmp_path / "b.onnx", clips_to_prove())


def test_a_long_video_gets_a_row_for_each_window_and_one_for_all(tmp_path):
    export_model(made(NETWORKS[2]), tmp_path / "a.onnx", clips_to_prove())
    video = folder(tmp_path / "videos" / "a", range(0, 250, 5), (40, 30))
    gif(tmp_path / "videos" / "b.gif", [1, 2, 3], 100)
    (tmp_path / "videos" / "c.gif").write_bytes(b"")
    (tmp_path / "videos" / "d.txt").write_text("")
    predictor = load(tmp_path / "a.onnx")
    found = list(predictor.predict(tmp_path / "videos"))
    assert [Path(one.file).name for one in found] == ["a", "b.gif", "c.gif"]
    assert [len(one.windows) for one in found] == [4, 1, 0]
    assert found[0].span == (0, 2)
    assert found[2].error == "empty file"
    (alone,) = predictor.predict(video)
    np.testing.assert_array_equal(alone.probabilities, found[0].probabilities)
    np.testing.assert_array_equal(
        predictor.predict_image(str(video)).probabilities, alone.probabilities
    )
    assert [one.file for one in predictor.predict([video, video])] == [str(video)] * 2
    with pytest.raises(ValueError, match="takes videos"):
        predictor.predict_image(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "sampling", [None, {"frames": 5, "seconds": 0.5}, {"frames": 0, "seconds": 1}]
)
def test_a_file_without_its_sampling_is_refused(tmp_path, sampling):
    import json

    from resnets.runtime.onnxfile import _metadata

    export_model(made(NETWORKS[2]), tmp_path / "a.onnx", clips_to_prove())
    metadata = dict(read_onnx(tmp_path / "a.onnx").metadata)
    _metadata(json.dumps(metadata))
    metadata.pop("sampling")
    with pytest.raises(ValueError, match=r"sampling|png"):
        _metadata(json.dumps({**metadata, **({"sampling": sampling} if sampling else {})}))


# ---- a run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips of a pattern that moves to one side, each of a pattern of its own."""
    root = tmp_path_factory.mktemp("clips") / "moves"
    for part, count in (("train", 20), ("test", 6)):
        for label, speed in zip(NAMES, (3, -3), strict=True):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                seed = [ord(letter) for letter in f"{part}{label}{number}"]
                images = moving(6, speed, seed)
                path = root / part / label / f"{number}.gif"
                images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    return root


def test_a_run_from_the_videos_to_the_prediction(data, tmp_path):
    import resnets

    run = resnets.train(
        str(data), f"{SMALL} time=motion", weights="none", epochs=25, size=32, frames=6, lr=0.05,
        batch_size=8, output=str(tmp_path / "run"),
    )  # fmt: skip
    assert run.model.sampling == Sampling(6, 0.6)
    assert run.metrics.numbers["accuracy"].value >= 0.9
    with (run.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (rows[0]["start"], rows[0]["end"]) == ("0.0", "0.6")
    page = (run.folder / "report.html").read_text("utf-8")
    assert "data:image/webp;base64," in page  # moving cases
    said = {
        Path(one.file).name: one.label
        for one in resnets.load(run.folder / "moves.onnx").predict(data / "test" / "left")
    }
    assert len(said) == 6
    again = resnets.load(run.folder)
    assert [one.label for one in again.predict(data / "test" / "left")] == list(said.values())


def test_mirrored_clips_would_be_of_another_class_so_nothing_is_flipped():
    from resnets.training.recipes import RECIPES

    assert {recipe.flip for (task, _), recipe in RECIPES.items() if task == "clips"} == {"none"}
    assert KINDS["clips"].takes == "clip"
    assert replace(make_task({"name": "clips"})).kind is KINDS["clips"]


def test_the_tool_makes_clips_of_which_a_frame_says_nothing(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image = Image.fromarray(rng.integers(0, 255, (16, 20, 3), np.uint8))
        image.resize((200, 160), Image.Resampling.BICUBIC).save(photos / f"{seed}.png")
    tool = str(ROOT / "tools" / "make_clips.py")
    options = ["--of", "6", "--frames", "5", "--size", "40x32", "--format", "frames"]
    subprocess.run([sys.executable, tool, str(tmp_path / "out"), str(photos), *options], check=True)
    found = find_data(tmp_path / "out")
    assert len(found.samples) == 36
    assert len(found.classes) == 6
    assert {len(list(sample.path.iterdir())) for sample in found.samples} == {5}
    parts = {
        part: {s.group for s in found.samples if s.split == part} for part in ("train", "test")
    }
    assert not parts["train"] & parts["test"]
    assert (len(parts["train"]), len(parts["test"])) == (4, 2)
    for sample in found.samples:
        if sample.labels[0] in ("pan left", "pan right"):
            assert (drift(sample.path) > 0) == (sample.labels[0] == "pan left")


def drift(path):
    """By how many pixels what is seen goes to the right, from the first frame to the second."""
    first, second = (
        np.asarray(Image.open(path / f"{number:05d}.jpg").convert("L"), float) for number in (2, 3)
    )
    errors = {
        x: np.abs(np.roll(first, x, 1)[:, 9:-9] - second[:, 9:-9]).mean() for x in range(-8, 9)
    }
    return min(errors, key=errors.get)
