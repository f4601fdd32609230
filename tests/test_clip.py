"""Videos, animations and folders of frames: which images are read of them, and what is said of those
that cannot be read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.clip import open_video, read_clip
from resnets.images import BadImage
from resnets.sampling import Sampling, read_sampling

DATA = Path(__file__).parent / "data" / "clips"
# Of variable.mp4: grey 20 + 8 i from these seconds on, the upper left quarter white
STARTS = np.cumsum([0] + [0.02] * 20 + [0.5] * 4)


def greys(source, times):
    """The grey level of the lower right corner at some times."""
    with open_video(source) as video:
        return [
            int(np.asarray(image)[-4:, -4:].mean()) for image in read_clip(video, np.array(times))
        ]


def reason(source):
    with pytest.raises(BadImage) as caught, open_video(source) as video:
        list(read_clip(video, np.array([0.0, video.seconds])))
    return str(caught.value)


@pytest.fixture
def decoder():
    """Wheels of the decoder are not made for every system."""
    pytest.importorskip("tensorcodec_av")


def gif(path, levels, milliseconds):
    frames = [Image.new("L", (20, 10), level) for level in levels]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return path


def folder(path, levels, size=(20, 10)):
    path.mkdir(parents=True)
    for number, level in enumerate(levels, 1):
        Image.new("L", size, level).save(path / f"{number}.png")
    return path


# ---- which images


def test_times_are_the_same_backwards_and_within_the_window():
    times = Sampling(5, 2.0).times((1.0, 3.0))
    np.testing.assert_allclose(times, [1.2, 1.6, 2.0, 2.4, 2.8])
    np.testing.assert_allclose(4.0 - times[::-1], times)


@pytest.mark.parametrize("length", [0.3, 2.0, 2.4, 3.0, 4.0, 7.7, 61.0])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_windows_cover_a_video_and_none_reaches_beyond_it(length, step):
    windows = Sampling(8, 2.0).windows(length, step)
    size = min(length, 2.0)
    assert all(end - begin == pytest.approx(size) for begin, end in windows)
    assert windows[0][0] >= 0
    assert windows[-1][1] <= length + 1e-9
    begins = [begin for begin, _ in windows]
    assert all(b - a <= size * step * 1.3 for a, b in itertools.pairwise(begins))
    if len(windows) > 1:
        assert (begins[0], windows[-1][1]) == (0, pytest.approx(length))
    assert len(Sampling(8, 2.0).windows(length, step, most=3)) == min(3, len(windows))


@pytest.mark.parametrize("values", [(0, 1.0), (8, 0), (8, float("nan")), (True, 1.0), (2**20, 1.0)])
def test_what_is_no_sampling_is_refused(values):
    with pytest.raises(ValueError, match="allowed: 1 to 1024 frames"):
        Sampling(*values)


def test_a_file_says_what_its_kind_takes():
    assert read_sampling(None, "image") is None
    assert read_sampling({"frames": 4, "seconds": 1.5}, "clip") == Sampling(4, 1.5)
    for values, takes in (
        (None, "clip"),
        ({"frames": 4, "seconds": 1.5}, "image"),
        ({"frames": 4}, "clip"),
        ([4, 1.5], "clip"),
    ):
        with pytest.raises(ValueError, match="sampling"):
            read_sampling(values, takes)


def test_frames_are_chosen_by_their_time_stamps(decoder):
    times = [0.0, 0.1, 0.39, 0.45, 1.0, 1.3, 1.89]
    shown = np.searchsorted(STARTS, times, side="right") - 1
    found = greys(DATA / "variable.mp4", times)
    np.testing.assert_allclose(found, 20 + 8 * shown, atol=4)


def test_the_display_matrix_turns_a_video_upright(decoder):
    with open_video(DATA / "rotated.mp4") as video:
        assert video.size == (32, 48)
        assert video.notes == ["turned upright (display matrix)"]
        (image,) = read_clip(video, np.zeros(1))
    assert image.size == (32, 48)
    assert np.asarray(image)[2, -3].mean() > 200  # it was the upper left quarter
    assert np.asarray(image)[2, 2].mean() < 60


def test_a_video_is_read_from_its_content_and_by_another_name(decoder, tmp_path):
    content = (DATA / "plain.webm").read_bytes()
    (tmp_path / "film").write_bytes(content)
    expected = greys(DATA / "plain.webm", [0.1, 0.9])
    assert greys(content, [0.1, 0.9]) == greys(tmp_path / "film", [0.1, 0.9]) == expected


def test_an_animation_shows_each_frame_for_its_own_time(tmp_path):
    path = gif(tmp_path / "a.gif", [10, 60, 110, 160], [100, 300, 50, 0])
    with open_video(path) as video:
        assert (video.frames, video.size) == (4, (20, 10))
        assert video.seconds == pytest.approx(0.55)  # none said: a tenth
    assert greys(path, [0.0, 0.09, 0.11, 0.39, 0.42, 0.46]) == [10, 10, 60, 60, 110, 160]


def test_frames_in_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    path = folder(tmp_path / "a", range(10, 130, 10))
    assert greys(path, (np.arange(12) + 0.5) / 25) == list(range(10, 130, 10))


def test_grayscale_is_read_where_it_is_wanted(tmp_path):
    with open_video(folder(tmp_path / "a", [10, 20])) as video:
        assert [image.mode for image in read_clip(video, np.zeros(2), 1)] == ["L", "L"]


# ---- what cannot be read


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("sound.mp4", 1.0, "sound only"),
        ("variable.mp4", 0.3, "cut off"),
        ("variable.mp4", 0.8, "cut off"),
        ("plain.webm", 0.0, "empty file"),
    ],
)
def test_videos_that_cannot_be_read(decoder, tmp_path, name, part, expected):
    content = (DATA / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    assert expected in reason(tmp_path / name)


def test_what_is_left_of_a_video_is_read(decoder):
    content = (DATA / "plain.webm").read_bytes()
    with open_video(content[: int(0.6 * len(content))]) as video:
        assert video.notes == ["cut off: 0.4 s of 1.0 s could be read"]
        assert len(list(read_clip(video, Sampling(4, 1.0).times((0.0, video.seconds))))) == 4


def test_a_single_frame_is_a_still_clip(decoder, tmp_path):
    for source in (
        DATA / "one.mp4",
        gif(tmp_path / "a.gif", [90], 100),
        folder(tmp_path / "b", [90]),
    ):
        with open_video(source) as video:
            assert video.notes == ["a single frame: nothing moves in it"]
            assert len(list(read_clip(video, Sampling(4, 1.0).times((0.0, video.seconds))))) == 4


def test_texts_pipes_and_missing_files_are_no_videos(decoder, tmp_path):
    (tmp_path / "a.mp4").write_text("no video at all")
    assert "not readable as a video" in reason(tmp_path / "a.mp4")
    assert reason(tmp_path / "b.mp4") == "no such file"
    (tmp_path / "c").mkdir()
    assert "no frames in this folder" in reason(tmp_path / "c")


def test_frames_of_another_size_or_broken_ones_are_named(tmp_path):
    path = folder(tmp_path / "a", [10, 20, 30])
    Image.new("L", (8, 8)).save(path / "2.png")
    assert reason_of_all(path) == "frame 2.png of 8 x 8 pixels among frames of 20 x 10"
    (path / "2.png").write_text("no image")
    assert reason_of_all(path).startswith("frame 2.png: not readable as an image")


def reason_of_all(source):
    with pytest.raises(BadImage) as caught, open_video(source) as video:
        list(read_clip(video, np.linspace(0, video.seconds, 9)))
    return str(caught.value)


def test_an_animation_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path):
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in range(4)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    with open_video(path) as video:
        assert 1 <= video.frames < 4
        assert "cut off: the end of the file is missing" in video.notes
        assert len(list(read_clip(video, np.zeros(2)))) == 2


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setattr("resnets.clip.video_installed", lambda: False)
    assert "pip install 'resnets[video]'" in reason(DATA / "plain.webm")
