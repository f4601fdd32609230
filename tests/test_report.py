"""The report: what it holds, what it never does, and how it feels in a browser without a
network."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import chromium
from PIL import Image

from resnets.evaluation.accuracy import measure
from resnets.evaluation.confusion import BAND, baseline, choose_cases, sections
from resnets.evaluation.curves import chart, charts, panels, plot_curves
from resnets.evaluation.maps import overlay, thumbnail
from resnets.evaluation.report import Report, write_report
from resnets.evaluation.sections import Case, Section, Twin, Twins, pair_section
from resnets.kinds.classes import ClassPrediction

pytest.importorskip("jinja2")

HOSTILE = ("<script>alert(1)</script>", "\"bees\" & 'wasps'", "개미 개미", "a b")


def example(classes=("ants", "bees"), n=80, seed=0, **changes):
    """A finished report over made-up pictures, some of them mistaken."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    labels = np.arange(n) % k
    scores = rng.normal(size=(n, k))
    scores[np.arange(n), labels] += 2
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
    picture, heat = (
        thumbnail(pixels),
        thumbnail(np.asarray(overlay(pixels, rng.normal(size=(7, 7))))),
    )
    classes = tuple(classes)
    cases = [
        case(
            f"{classes[labels[i]]}/{i} <img src=x onerror=alert(2)>.jpg",
            classes,
            labels[i],
            probabilities[i],
            thumbnail=picture,
            heat=heat,
        )
        for i in choose_cases(probabilities, labels)
    ]
    rows = [
        {
            "step": s,
            "epoch": s / 5,
            "train_loss": 1 / s,
            "train_accuracy": 1 - 1 / s,
            "val_loss": None if s % 5 else 1.2 / s,
        }
        | {
            "val_accuracy": None if s % 5 else 0.8,
            "val_accuracy_ema": None if s % 5 else 0.9,
            "learning_rate": 0.1,
        }
        for s in range(1, 11)
    ]
    values = {
        "title": f"{classes[0]} and others",
        "command": "resnets train 'my photos/' --minutes 5",
        "facts": (("Network", "resnet18"), ("ImageCache", f"{n} of {k} classes")),
        "metrics": measure(probabilities, labels, classes),
        "rows": rows,
        "findings": (("warning", "2 pictures <twice>"), ("note", "1 turned upright")),
        "notes": ("Not measured: other cameras.",),
        "steps": ("Add images of bees.",),
        "files": ("bees & wasps.onnx",),
    }
    values["baseline"] = baseline(values["metrics"])
    shown = changes.pop("cases", cases)
    values |= {"sections": tuple(sections(values["metrics"], shown)), "shown": len(shown)}
    return Report(**values | changes)


def case(file, classes, label, probabilities, **images):
    """An image with its true class and what a network said of it."""
    truth = ClassPrediction(file, classes, np.eye(len(classes), dtype=np.float32)[label])
    said = ClassPrediction(file, classes, np.asarray(probabilities, np.float32))
    return Case(truth, said, **images)


def written(tmp_path, report):
    write_report(tmp_path / "report.html", report)
    return (tmp_path / "report.html").read_text("utf-8")


class Page(HTMLParser):
    """Tags with attributes, and the text between them that a reader sees."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("style", "script"):
            self.text += data


def test_hostile_names_stay_text(tmp_path):
    page = Page(written(tmp_path, example(HOSTILE)))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [
        (tag, name) for tag, attributes in page.tags for name in attributes if name.startswith("on")
    ]
    assert all(
        attributes["src"].startswith("data:") for tag, attributes in page.tags if tag == "img"
    )
    for name in HOSTILE:
        assert name in page.text
        assert any(
            attributes.get("aria-label", "").startswith(f"true {name}, predicted {name}: ")
            for _, attributes in page.tags
        )


def test_a_file_name_that_is_no_unicode_does_not_stop_the_page(tmp_path):
    wrong = case("b\udcffd.jpg", ("ants", "bees"), 0, [0.1, 0.9])
    assert "b?d.jpg" in written(tmp_path, example(cases=[wrong]))


@pytest.mark.parametrize("k", [2, 30])
def test_nothing_is_fetched_from_anywhere(tmp_path, k):
    source = written(tmp_path, example([f"class {i}" for i in range(k)], n=200))
    assert not re.search(
        r"https?://|url\(|@import|\bfetch\b|XMLHttpRequest|sendBeacon",
        re.sub(r"data:image/jpeg;base64,[^\"]+", "", source),
    )
    for tag, attributes in Page(source).tags:
        # a link is followed by a reader alone, and leads to what lies beside the page
        allowed = ("data:", "#", "bees%20%26") if tag == "a" else ("data:", "#")
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith(allowed), (tag, attributes)
    policy = next(
        a["content"]
        for tag, a in Page(source).tags
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_says_what_counts(tmp_path):
    report = example()
    text = " ".join(Page(written(tmp_path, report)).text.replace("\N{NO-BREAK SPACE}", " ").split())
    accuracy = report.metrics.accuracy
    assert f"{100 * accuracy.value:.1f} % accuracy on 80 images" in text
    assert f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %" in text
    order = [
        "ants and others",
        "accuracy on",
        "Balanced accuracy",
        "Always predicting ants gives 50.0 %.",
        report.notes[0],
        "Next steps",
        report.steps[0],
        "Confusion matrix",
        "Classes",
        "Worst mistakes",
        "Calibration",
    ]
    order += [
        "Learning curves",
        "2 pictures <twice>",
        "Details of the run",
        report.facts[0][1],
        report.command,
        report.files[0],
        "Confidence intervals",
    ]
    places = [text.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)


def test_a_model_near_chance_is_not_praised():
    labels = np.repeat([0, 1], [70, 30])
    probabilities = np.tile([0.9, 0.1], (100, 1))
    assert baseline(measure(probabilities, labels, ["ants", "bees"])) == (
        "not clearly better than always predicting ants, which gives 70.0 %"
    )
    probabilities = np.eye(2)[labels]
    assert baseline(measure(probabilities, labels, ["ants", "bees"])) == (
        "always predicting ants gives 70.0 %"
    )


def test_images_that_look_alike_stand_side_by_side(tmp_path):
    left, right = (thumbnail(np.full((8, 8, 3), level, np.uint8)) for level in (40, 200))
    pairs = [
        Twins((Twin(HOSTILE[0], "ants (val)", left), Twin("b.jpg", "bees (val)", right)), how, odd)
        for how, odd in (("exact", True), ("near", False))
    ]
    source = written(tmp_path, example(sections=(pair_section(pairs * 10),)))
    page = Page(source)
    assert [tag for tag, _ in page.tags].count("script") == 1
    files = [dict(attributes).get("alt") for tag, attributes in page.tags if tag == "img"]
    assert files == [HOSTILE[0], "b.jpg"] * 20
    assert page.text.count("ants (val)") == 20
    assert "8 more" in page.text, "the others on demand"


def test_many_classes_become_a_list_of_pairs(tmp_path):
    report = example([f"class {i}" for i in range(120)], n=2000)
    page = Page(written(tmp_path, report))
    assert "Most confused" in page.text
    assert 0 < sum("data-open" in attributes for _, attributes in page.tags) <= 60
    assert any(attributes.get("type") == "search" for _, attributes in page.tags)


@pytest.mark.parametrize(
    "changes", [{"rows": [], "cases": ()}, {"findings": (), "notes": (), "facts": ()}]
)
def test_an_empty_part_does_not_break_the_page(tmp_path, changes):
    text = Page(written(tmp_path, example(**changes))).text
    assert ("Learning curves" in text) == ("rows" not in changes)
    assert ("none is shown on this page" in text) == ("cases" in changes)
    assert ("Network" in text) == ("facts" not in changes)


def test_a_failed_write_leaves_the_old_page_and_no_rubbish(tmp_path, monkeypatch):
    before = written(tmp_path, example())

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "report.html", example(title="another"))
    assert (tmp_path / "report.html").read_text("utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="'moths'"):
        example(cases=[case("x.jpg", ("ants", "moths"), 1, [0.9, 0.1])])
    with pytest.raises(ValueError, match="'fatal'"):
        example(findings=(("fatal", "x"),))
    with pytest.raises(ValueError, match="'pie'"):
        Section("pie", "Shares")


def lines_section():
    """Precision and recall over a threshold."""
    values = {"precision": [(0.0, 0.2), (1.0, 0.9)], "recall": [(0.0, 1.0), (1.0, 0.3)]}
    drawn = chart("All labels", values, percent=True, x_title="threshold")
    return Section("lines", "Thresholds", "Over them.", {"charts": [drawn], "over": "thresholds"})


def test_a_section_of_lines_shows_its_charts(tmp_path):
    page = Page(written(tmp_path, example(sections=(lines_section(),))))
    assert "Thresholds" in page.text
    (label,) = [
        a["aria-label"] for tag, a in page.tags if "over thresholds" in a.get("aria-label", "")
    ]
    assert "precision 0.900" in label
    assert "recall 0.300" in label
    lines = [a["points"] for tag, a in page.tags if tag == "polyline"]
    assert len(lines) == 2 + 5  # of this chart, and of the two learning curves
    assert all(len(set(points.split())) == 2 for points in lines[:2])


def test_curves_come_from_the_columns_that_there_are(tmp_path):
    rows = [{"epoch": 1, "train_loss": 0.5, "val_loss": None, "val_map": 0.7, "val_map_ema": 0.8}]
    text = " ".join(Page(written(tmp_path, example(rows=rows))).text.split())
    for part in ("Learning curves", "mAP", "Validation mAP, averaged weights", "Training loss"):
        assert part in text
    assert "accuracy, averaged" not in text


def test_a_chart_holds_its_points_within_its_axes():
    drawn = chart("F1", {"one": [(0.25, 0.125), (0.5, 0.5), (0.75, 0.875)]}, x_title="threshold")
    points = [tuple(map(float, point.split(","))) for point in drawn.lines[0].points.split()]
    x, y = ({text: place for place, text in ticks} for ticks in (drawn.x_ticks, drawn.y_ticks))
    assert points[1] == pytest.approx(
        ((x["0.4"] + x["0.6"]) / 2, (y["0.4"] + y["0.6"]) / 2), abs=0.1
    )
    assert [one for one, _ in points] == sorted(one for one, _ in points)
    assert [one for _, one in points] == sorted((one for _, one in points), reverse=True)
    for across, down in points:
        assert drawn.left <= across <= drawn.width - drawn.right
        assert drawn.top <= down <= drawn.height - drawn.bottom
    (name, last) = (drawn.lines[0].name, drawn.lines[0].last)
    assert (name, last, drawn.x_title) == ("one", 0.875, "threshold")
    long = chart("F1", {"one": [(i / 5000, i / 5000) for i in range(5000)]})
    assert len(long.lines[0].points.split()) < 250
    flat = chart("F1", {"one": [(0.0, 0.5)]}, percent=True)
    assert "nan" not in flat.lines[0].points
    assert all(text.endswith(" %") for _, text in flat.y_ticks)


def test_panels_keep_the_order_of_the_columns_after_the_loss():
    rows = [dict.fromkeys(("epoch", "train_zeal", "train_loss"), 1.0)]
    rows += [dict.fromkeys(("val_map", "val_map_ema", "val_edge", "val_loss"), 0.5)]
    assert {name: list(lines.values()) for name, lines in panels(rows).items()} == {
        "loss": ["train_loss", "val_loss"],
        "zeal": ["train_zeal"],
        "map": ["val_map", "val_map_ema"],
        "edge": ["val_edge"],
    }
    assert list(panels(rows)) == ["loss", "zeal", "map", "edge"]
    assert [chart.title for chart in charts([{"epoch": 1.0, "val_map": 0.5}])] == ["mAP"]


def test_choose_cases_takes_the_worst_first_and_then_from_every_cell():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=3000)
    probabilities = rng.dirichlet([1, 1, 1], 3000)
    probabilities[np.arange(3000), labels] += 0.3
    probabilities /= probabilities.sum(1, keepdims=True)
    chosen = choose_cases(probabilities, labels, per_cell=5, worst=20)
    predicted, own = probabilities.argmax(1), probabilities[np.arange(3000), labels]
    mistakes = np.flatnonzero(predicted != labels)
    np.testing.assert_array_equal(chosen[:20], mistakes[np.argsort(own[mistakes])][:20])
    assert len(set(chosen)) == len(chosen)
    for i, j in np.ndindex(3, 3):
        cell = np.flatnonzero((labels == i) & (predicted == j))
        worst = set(cell[np.argsort(own[cell])][:5])
        assert worst <= set(chosen)
        assert set(chosen[20:]) & set(cell) <= worst
    np.testing.assert_array_equal(choose_cases(probabilities, labels, 5, 20, most=7), chosen[:7])
    assert len(choose_cases(probabilities, labels, per_cell=0, worst=0)) == 0


def test_choose_cases_starves_no_cell_where_there_are_many():
    rng = np.random.default_rng(1)
    labels = rng.integers(10, size=20_000)
    probabilities = rng.dirichlet(np.ones(10), 20_000)
    chosen = choose_cases(probabilities, labels, most=700)
    cells = np.bincount(labels[chosen] * 10 + probabilities[chosen].argmax(1), minlength=100)
    assert len(chosen) == 700
    assert cells.min() >= BAND


def test_maps_show_positive_evidence_where_it_is():
    pixels = np.full((60, 90, 3), 120, np.uint8)
    heat = np.full((6, 9), -5.0)
    heat[1, 7] = 3
    values = np.asarray(overlay(pixels, heat), int)
    assert values.shape == (60, 90, 3)
    assert np.unravel_index(values.sum(2).argmax(), (60, 90)) == pytest.approx((15, 75), abs=6)
    # what speaks against it leaves no trace
    assert len(np.unique(values[:, :45].reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(
        np.asarray(overlay(pixels, np.zeros((6, 9)))),
        np.asarray(overlay(pixels, np.full((6, 9), -1))),
    )
    with pytest.raises(ValueError, match="finite"):
        overlay(pixels, np.full((6, 9), np.nan))


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint8), (1, np.uint16)])
def test_thumbnails_keep_the_shape(channels, dtype):
    pixels = np.full((200, 100, channels), np.iinfo(dtype).max, dtype)
    image = Image.open(io.BytesIO(thumbnail(pixels)))
    assert (image.format, image.size) == ("JPEG", (48, 96))
    assert np.asarray(image).min() >= 254
    assert Image.open(io.BytesIO(thumbnail(pixels[:32, :32]))).size == (32, 32)
    with pytest.raises(ValueError, match="shape"):
        thumbnail(pixels[..., 0])


def test_curves_are_drawn_with_and_without_validation(tmp_path):
    pytest.importorskip("matplotlib")
    rows = example().rows
    for name, some in {"whole": rows, "one": rows[:1], "none": []}.items():
        plot_curves(some, tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").size == (1200, 480)
    assert (tmp_path / "whole.png").stat().st_size > (tmp_path / "none.png").stat().st_size


def test_the_room_needs_neither_torch_nor_the_extras_to_be_imported():
    code = (
        "import sys; from resnets.evaluation import curves, maps, metrics, report;"
        " print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "jinja2", "matplotlib"} & set(loaded)


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    """Chromium, kept from talking to anyone of its own accord."""
    with chromium() as found:
        yield found


@pytest.fixture
def show(browser, tmp_path):
    """Opens a report offline; afterwards nothing may have been asked for and nothing complained
    of."""
    contexts, requests, complaints = [], [], []

    def open_page(report, **options):
        write_report(tmp_path / "report.html", report)
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        contexts.append(context)
        context.set_offline(True)
        context.route(re.compile(r"^(?!file:|data:)"), lambda route: route.abort())
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith("data:") else requests.append(request.url)
            ),
        )
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto((tmp_path / "report.html").as_uri())
        return page

    yield open_page
    address = (tmp_path / "report.html").as_uri()
    for context in contexts:
        context.close()
    assert requests == [address] * len(contexts)
    assert complaints == []


def mistaken(report):
    """Row, column and count of the fullest confusion cell off the diagonal."""
    wrong = report.metrics.confusion * (1 - np.eye(len(report.metrics.classes), dtype=int))
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    return i, j, int(wrong[i, j])


@pytest.mark.parametrize("classes", [("ants", "bees"), HOSTILE])
def test_a_cell_opens_its_pictures_and_escape_closes_them(show, classes):
    report = example(classes)
    page, (i, j, count) = show(report), mistaken(report)
    cell = page.get_by_role(
        "button", name=f"true {classes[i]}, predicted {classes[j]}: {count} images", exact=True
    )
    dialog = page.get_by_role("dialog")
    cell.click()
    assert (
        dialog.get_by_role("heading").inner_text() == f"true {classes[i]}, predicted {classes[j]}"
    )
    assert dialog.locator("figure").count() == count
    photo, heat = dialog.locator(".photo").first, dialog.locator(".heat").first
    assert photo.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    assert (photo.is_visible(), heat.is_visible()) == (True, False)
    dialog.get_by_role("button", name="Heat map").click()
    assert (photo.is_visible(), heat.is_visible()) == (False, True)
    assert f"{classes[i]}/" in dialog.locator(".file").first.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert cell.evaluate("cell => cell === document.activeElement")


def test_the_keyboard_is_enough(show):
    report = example(("ants", "bees", "wasps"), n=240)
    page = show(report)

    def focused():
        return page.evaluate("document.activeElement.dataset.open ?? document.activeElement.id")

    for _ in range(10):
        page.keyboard.press("Tab")
        if focused() == "0-0":
            break
    assert focused() == "0-0"
    for key, place in [
        ("ArrowRight", "0-1"),
        ("ArrowDown", "1-1"),
        ("ArrowDown", "2-1"),
        ("ArrowDown", "2-1"),
        ("ArrowLeft", "2-0"),
        ("ArrowUp", "1-0"),
    ]:
        page.keyboard.press(key)
        assert focused() == place
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    for _ in range(5):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('dialog')"
            " !== null"
        )
    page.keyboard.press("Escape")
    assert focused() == "1-0"
    page.keyboard.press("Tab")
    assert "-" not in focused()  # one stop for the whole matrix


@pytest.mark.parametrize("k", [2, 18, 60])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_screen(show, k, width):
    names = ["averylongnamewithoutanyspaceatallforaclass" * 2, *(f"class {i}" for i in range(1, k))]
    page = show(example(names, n=20 * k), viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("[data-open]:not([aria-disabled])").first.click()
    assert page.locator("dialog").evaluate(
        "dialog => dialog.scrollWidth <= dialog.clientWidth && dialog.getBoundingClientRect().right"
        " <= innerWidth"
    )


def test_the_filter_finds_a_class_among_many(show):
    page = show(example([f"class {i}" for i in range(60)], n=600))
    page.get_by_role("searchbox", name="Find a class").fill("CLASS 7")
    assert page.locator(".classes tbody tr:visible th").all_inner_texts() == ["class 7"]
    assert page.locator("output").inner_text() == "1 of 60"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(show, scheme):
    page = show(example(("ants", "bees", "wasps", "flies"), n=200), color_scheme=scheme)
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 40
    assert min(ratios.values()) >= 4.5, min(ratios, key=ratios.get)


CONTRAST = """() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const luminance = (color) => {
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return color === 'rgba(0, 0, 0, 0)' ? behind(node.parentElement) : color;
  };
  const ratios = {};
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.tagName === 'SCRIPT') continue;
    const style = getComputedStyle(node);
    const front = node.tagName === 'text' ? style.fill : style.color;
    const [light, dark] = [luminance(front), luminance(behind(node))].sort((x, y) => y - x);
    ratios[`${node.tagName} ${node.getAttribute('class')} ${node.textContent.trim()}`] = (light + .05) / (dark + .05);
  }
  return ratios;
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_lines_can_be_told_apart_on_any_screen(show, width):
    report = example(sections=(lines_section(),))
    page = show(report, viewport={"width": width, "height": 800})
    drawing = page.get_by_role("img", name="All labels over thresholds")
    assert drawing.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    style = "lines => lines.map(line => [getComputedStyle(line).stroke, getComputedStyle(line).strokeDasharray])"
    (one, other) = drawing.locator("polyline").evaluate_all(style)
    assert one[0] != other[0]
    assert one[1] != other[1]  # also for who sees no colours
    legend = page.locator("figure", has=drawing).locator("figcaption")
    assert all(name in legend.inner_text() for name in ("precision", "recall"))


def test_without_javascript_the_page_can_be_read(show):
    report = example()
    page = show(report, java_script_enabled=False)
    assert page.get_by_role("heading", name="Worst mistakes").is_visible()
    assert page.locator(".pairwise .photo").first.is_visible()
    assert not page.get_by_text("arrow keys").is_visible()
