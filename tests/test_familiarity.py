"""What the file knows it does not know: how familiar an image is, in every engine alike."""

import copy
import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import resnets
from resnets.kinds import KINDS
from resnets.kinds.prediction import UNFAMILIAR
from resnets.modelfile import load_model, read_model, write_model
from resnets.run.folder import RunFolder
from resnets.runtime.engines import available_engines
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.proof import prove
from resnets.tasks.familiarity import (
    APART,
    EACH,
    FEWEST,
    LEVELS,
    PREFIX,
    Familiarity,
    kept_when_halved,
    make_knots,
    share_beyond,
)
from resnets.torch_engine import TorchEngine

OLD = Path(__file__).parent / "data" / "format2" / "tiny.onnx"
CHANNELS, CLASSES = 48, 3


def features_of_classes(n, seed):
    """Of classes that lie apart and vary in a few directions more than in the others."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.arange(n) % CLASSES
    scale = torch.linspace(1.5, 0.3, CHANNELS)
    made = torch.randn(n, CHANNELS, generator=generator) * scale + 4 * torch.eye(CHANNELS)[-groups]
    return made + 3, groups


@pytest.fixture(scope="module")
def fitted():
    features, groups = features_of_classes(900, 0)
    found = Familiarity.fit(features, groups, features_of_classes(400, 1)[0])
    assert found is not None
    return found


def test_the_distance_is_that_of_mahalanobis(fitted):
    """With the covariance written out: main directions as they vary, all others equally far."""
    features, groups = features_of_classes(900, 0)
    units = torch.nn.functional.normalize(features).double().numpy()
    means = np.stack([units[groups == group].mean(0) for group in range(CLASSES)])
    apart = units - means[groups]
    variances, vectors = np.linalg.eigh(apart.T @ apart / (len(units) - CLASSES))
    main = fitted.basis.shape[1]
    assert main == CHANNELS // 2
    variances[:-main] = variances[:-main].mean()
    inverse = (vectors / variances) @ vectors.T
    new, _ = features_of_classes(50, 2)
    moved = torch.nn.functional.normalize(new).double().numpy()[:, None] - means
    expected = np.einsum("ncx,xy,ncy->nc", moved, inverse, moved).min(1) * variances[0]
    np.testing.assert_allclose(fitted.distances(new).numpy(), np.sqrt(expected), rtol=1e-3)


def test_as_many_new_images_are_familiar_as_is_said(fitted):
    """Of images of the same kind a share p has at most p, whatever p is."""
    shares = fitted(features_of_classes(4000, 3)[0])
    for level in (UNFAMILIAR, 0.25, 0.5, 0.9):
        # the scale is that of 400 images, each share of which varies too
        error = (level * (1 - level) * (1 / 4000 + 1 / 400)) ** 0.5
        assert (shares < level).float().mean() == pytest.approx(level, abs=4 * error)


def test_others_are_not_familiar(fitted):
    generator = torch.Generator().manual_seed(4)
    others = torch.randn(500, CHANNELS, generator=generator).abs() * 3
    assert (fitted(others) < UNFAMILIAR).float().mean() > 0.95


def test_it_is_the_direction_of_features_that_counts(fitted):
    new, _ = features_of_classes(50, 5)
    torch.testing.assert_close(fitted(new), fitted(7 * new), atol=1e-4, rtol=0)
    assert fitted(torch.zeros(1, CHANNELS)).isfinite().all()


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=FEWEST, max_size=300),
    st.lists(st.floats(0, 2e3), min_size=2, max_size=30),
)
def test_the_share_falls_with_the_distance(held_out, new):
    knots = make_knots(torch.tensor(held_out))
    assert len(knots) == LEVELS + 1
    assert (knots[1:] >= knots[:-1]).all()
    shares = share_beyond(torch.tensor(sorted(new)), knots)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares[1:] <= shares[:-1] + 1e-6).all()
    nearest = share_beyond(torch.zeros(1), knots)
    assert nearest == pytest.approx(1) if min(held_out) > 4 * APART else nearest >= 0.5


def test_distances_that_are_all_alike_do_not_make_rounding_count():
    """Features of a network that has learnt its images by heart: held-out images are next to the
    mean of their class, and stay familiar; what lies apart is not."""
    knots = make_knots(1e-3 + 1e-5 * torch.rand(200, generator=torch.Generator().manual_seed(0)))
    own = torch.tensor([1.000e-3, 1.005e-3, 1.010e-3])
    assert (share_beyond(own, knots) > 0.4).all()
    assert share_beyond(own, knots).sub(share_beyond(own + 1e-5, knots)).abs().max() < 0.005
    assert share_beyond(torch.tensor([0.02]), knots) == 0


def test_of_held_out_images_each_rank_has_its_share():
    """Up to the last level, within which the share only falls."""
    distances = torch.arange(1, 200) / 7.0
    expected = 1 - torch.arange(1, 200) / 200
    found = share_beyond(distances, make_knots(distances))
    within = expected > 1 / LEVELS
    torch.testing.assert_close(found[within], expected[within], atol=1e-3, rtol=0)
    assert (found[~within] < 2 / LEVELS).all()


def test_halves_do_not_choose_their_own_scale():
    """Where one half lies farther out, its images are strange to the scale of the other one."""
    distances = torch.cat([torch.linspace(1, 2, 50), torch.linspace(11, 12, 50)])
    halves = torch.arange(100) // 50
    kept = kept_when_halved(distances, halves, UNFAMILIAR)
    assert kept[:50].all()
    assert not kept[50:].any()


def test_rounding_does_not_count_beside_large_variation_in_a_few_directions():
    """Deep networks that have hardly learnt anything: what images differ in beyond a few directions
    is a thousandth of what they differ in there. Engines that round otherwise came to other
    numbers, and a training ended without its file."""
    rng = torch.Generator().manual_seed(0)
    main = torch.linalg.qr(torch.randn(64, 4, generator=rng)).Q
    features = torch.randn(700, 4, generator=rng) @ main.T
    features += 1e-3 * torch.randn(700, 64, generator=rng)
    features = features + 0.5
    found = Familiarity.fit(features[:400], torch.arange(400) % 10, features[400:600])
    new = features[600:]
    assert found.knots[LEVELS // 2] < 0.01
    rounded = new * (1 + 1e-7 * torch.randn(new.shape, generator=rng))
    assert (found(new) - found(rounded)).abs().max() < 0.001


def test_too_few_images_tell_nothing():
    features, groups = features_of_classes(300, 0)
    assert Familiarity.fit(features, groups, features[: FEWEST - 1]) is None
    few = EACH + CLASSES - 1
    assert Familiarity.fit(features[:few], groups[:few], features) is None


def test_only_classes_have_it():
    assert {name for name, kind in KINDS.items() if "familiar" in kind.outputs} == {"classes"}


def test_a_difference_is_held_against_its_limit():
    kind = KINDS["classes"]
    one = {"probabilities": np.array([[0.5, 0.5]], np.float32), "familiar": np.array([0.5])}
    other = one | {"familiar": np.array([0.52])}
    found = kind.differences(other, one, {}).values["familiarity"]
    assert kind.limits["float32"]["familiarity"] < found < kind.limits["any"]["familiarity"]


def texture(kind, number):
    rng = np.random.default_rng((kind, number))
    scale = (2, 8, 32)[kind]
    small = rng.integers(60, 200, (32 // scale, 32 // scale, 3), dtype=np.uint8)
    pixels = small.repeat(scale, 0).repeat(scale, 1) + rng.normal(0, 20, (32, 32, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_textures(folder, count):
    for number in range(count):
        place = folder / ("fine", "coarse", "flat")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        texture(number % 3, number).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("familiar")
    photos = make_textures(root / "photos", 180)
    arguments = {"epochs": 5, "batch_size": 32, "weights": "none", "quiet": True}
    return resnets.train(photos, "resnet20 widths=8-16-32", output=root / "run", **arguments)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Images of something else: a bright wedge on black."""
    folder = tmp_path_factory.mktemp("strange")
    for number in range(8):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[number : number + 12, 4 * number % 20 :] = (255, 0, 20 * number)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_every_engine_says_the_same(run, strange):
    files = [*sorted((run.folder.parent / "photos").rglob("*.png"))[::20], *strange.iterdir()]
    expected = [one.familiar for one in resnets.load(run.folder).predict(files)]
    assert max(expected) > 0.3
    for engine in available_engines():
        found = [one.familiar for one in resnets.load(run.proven.path, engine).predict(files)]
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_it_is_in_the_model_file_and_exported_again(run, tmp_path):
    tensors, _ = read_model(RunFolder(run.folder).best)
    names = {name for name in tensors if name.startswith(PREFIX)}
    assert names == {f"{PREFIX}{name}" for name in ("means", "basis", "knots")}
    again = run.export(tmp_path / "again.onnx")
    image = np.asarray(texture(0, 999))[None]
    model = load_model(run.folder)
    assert model.familiarity is not None
    first = TorchEngine(model)(image)["familiar"]
    engine = resnets.load(again.path).engine
    np.testing.assert_allclose(engine(image)["familiar"], first, atol=1e-3)
    other = copy.copy(model)
    other.familiarity = None
    assert other.sha256 != model.sha256


def test_the_proof_covers_it(run):
    file = read_onnx(run.proven.path)
    assert all("familiar" in golden.outputs for golden in file.golden)
    model = load_model(run.folder)
    assert model.familiarity is not None
    assert prove(TorchEngine(model), file).ok
    model.familiarity = copy.deepcopy(model.familiarity)
    model.familiarity.knots *= 0.5
    assert not prove(TorchEngine(model), file).ok


def test_a_file_that_does_not_fit_is_refused(run, tmp_path):
    tensors, metadata = read_model(RunFolder(run.folder).best)
    tensors[f"{PREFIX}means"] = tensors[f"{PREFIX}means"][:, 1:]
    write_model(tmp_path / "a.safetensors", tensors, metadata)
    with pytest.raises(ValueError, match="does not fit"):
        load_model(tmp_path / "a.safetensors")
    del tensors[f"{PREFIX}means"]
    write_model(tmp_path / "b.safetensors", tensors, metadata)
    with pytest.raises(ValueError, match="does not fit"):
        load_model(tmp_path / "b.safetensors")


def test_the_report_shows_the_least_familiar_images(run):
    page = (run.folder / "report.html").read_text()
    assert "Least familiar images" in page
    assert "each on the scale of the other half" in page
    with (run.folder / "predictions.csv").open(newline="") as file:
        shares = [float(row["familiar"]) for row in csv.DictReader(file)]
    assert min(shares) < 0.1 < 0.9 < max(shares)


def predict(*arguments):
    command = [sys.executable, "-m", "resnets", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_predict_tells_it_and_names_the_unknown(run, strange, tmp_path):
    shutil.copytree(strange, tmp_path / "new")
    texture(1, 1000).save(tmp_path / "new" / "own.png")
    tables = {}
    for name, options in {"plain": (), "unknown": ("--unknown",)}.items():
        done = predict(run.proven.path, tmp_path / "new", *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == "file,label,probability,familiar,error,notes"
        tables[name] = list(csv.DictReader(done.stdout.splitlines()))
    for plain, unknown in zip(tables["plain"], tables["unknown"], strict=True):
        strange_one = float(plain["familiar"]) < UNFAMILIAR
        assert unknown["label"] == ("none of these" if strange_one else plain["label"])
    assert sum(row["label"] == "none of these" for row in tables["unknown"]) >= 4
    assert all(row["label"] in ("fine", "coarse", "flat") for row in tables["plain"])


def test_a_table_with_other_labels_is_not_continued(run, strange, tmp_path):
    output = tmp_path / "t.csv"
    assert predict(run.proven.path, strange, "-o", output).returncode == 0
    done = predict(run.proven.path, strange, "-o", output, "--unknown")
    assert done.returncode == 2


def test_a_file_without_it_is_as_before(strange):
    done = predict(OLD, strange)
    assert done.stdout.splitlines()[0] == "file,label,probability,error,notes"
    assert next(iter(resnets.load(OLD).predict(strange))).familiar is None
    done = predict(OLD, strange, "--unknown")
    assert done.returncode == 2
    assert "does not say how familiar" in done.stderr
