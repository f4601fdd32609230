"""Help: a sentence for every option with its default and unit, whole words at any width, and one
place where a setting is written."""

import dataclasses
import importlib.util
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from typer.main import get_command

from resnets.cli.app import app
from resnets.settings import about, check_values, default_of
from resnets.training.settings import TrainSettings

VERBS = get_command(app).commands
OPTIONS = [(name, one) for name, verb in VERBS.items() for one in verb.params]
TOLD = about(TrainSettings)
PANELS = ("Data", "Network", "Model", "Input", "Training", "Output", "Server")
DEFAULTS = {one.name: one.default for one in dataclasses.fields(TrainSettings)}


def shown(*words, width=80, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "resnets", *words],
        capture_output=True,
        text=True,
        env={"COLUMNS": str(width), "PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def is_flag(option):
    return bool(getattr(option, "is_flag", False))


@pytest.mark.parametrize(
    ("verb", "option"), OPTIONS, ids=[f"{verb}-{one.name}" for verb, one in OPTIONS]
)
def test_every_option_has_a_sentence_a_group_and_a_default(verb, option):
    text = re.sub(r" \[[^\]]*\]$", "", option.help or "")
    assert text[:1].isupper()
    assert text.endswith(".")
    assert option.rich_help_panel in PANELS
    if not is_flag(option):
        assert option.metavar
        told = isinstance(option.show_default, str) or option.default is not None
        assert told or option.required or option.name == "data"


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("words", [[], *([name] for name in VERBS)], ids=" ".join)
def test_help_fits_and_breaks_no_word(words, width):
    text = shown(*words, "--help", width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "<" not in text
    assert "Examples" in text
    printed = set(text.split())
    command = VERBS[words[0]] if words else get_command(app)
    said = [command.help, *(one.help for one in command.params)]
    for word in " ".join(map(str, said)).split():
        assert any(word.strip("[]") in one for one in printed), word


def test_examples_use_options_that_exist():
    for name, verb in VERBS.items():
        flags = {flag for one in verb.params for flag in one.opts}
        lines = verb.epilog.strip().splitlines()
        assert all(line.startswith(f"resnets {name}") for line in lines)
        assert {*re.findall(r" (--?[a-z][a-z0-9-]*)", verb.epilog)} <= {*flags, "--help"}


def test_help_of_settings_says_range_unit_and_default():
    lines = " ".join(shown("train", "--help").split())
    for said in (
        "Fraction of the training steps spent warming up the learning rate. [0 to 0.9; default:"
        " 0.1]",
        "Side of the square input. [8 to 4096 pixels; default: the size",
        "--flip none|horizontal|both Random flips",
        "--minutes FLOAT",
    ):
        assert said in lines


def test_a_default_of_nought_is_told():
    assert re.search(r"threads; default:\s+0\]", shown("predict", "--help"))


# ---- a setting is written once


def test_a_setting_that_is_added_is_a_flag_a_keyword_and_a_check():
    """With one field, and nothing else."""
    from typer import Typer

    from resnets.cli.options import with_settings
    from resnets.settings import setting

    @dataclasses.dataclass(frozen=True)
    class More(TrainSettings):
        range: str = setting("Range.", "Data", "auto", choices=("auto", "255"))

    def verb(json: bool = False, **settings: typing.Any) -> None:
        seen.update(settings)

    seen: dict = {}
    small = Typer()
    small.command()(with_settings(More, verb))
    get_command(small)(["photos", "--range", "255"], standalone_mode=False)
    assert seen["range"] == "255"
    assert {name for name, value in seen.items() if value is not None} == {"data", "range"}
    with pytest.raises(ValueError, match="range is 3; allowed: auto, 255"):
        More("photos", range="3")


@pytest.mark.parametrize("name", TOLD)
def test_every_setting_is_told_and_its_default_is_allowed(name):
    one = TOLD[name]
    assert re.fullmatch(r"[A-Z][^|]*\.", one.help)
    assert one.group in ("Data", "Network", "Training", "Output")
    assert (DEFAULTS[name] is None) == bool(one.open)
    assert default_of(TrainSettings, name)
    if isinstance(DEFAULTS[name], int | float):
        assert not one.refuses(DEFAULTS[name])
        assert one.between or one.choices


@pytest.mark.parametrize("name", [name for name, one in TOLD.items() if one.between])
def test_values_beyond_the_range_are_refused(name):
    low, high = TOLD[name].between
    for value in (low, high):
        TrainSettings("photos", **{name: value})
    for value in (low - 1, high * 2 + 1, float("nan"), float("inf"), "many"):
        with pytest.raises(ValueError, match=f"{name} is .*; allowed: "):
            TrainSettings("photos", **{name: value})


def test_the_table_of_settings_is_the_fields():
    file = Path(__file__).parents[1] / "tools" / "settings_table.py"
    spec = importlib.util.spec_from_file_location("settings_table", file)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text("utf-8") == tool.page(), "run: python tools/settings_table.py"


def test_train_has_the_settings_as_keywords(tmp_path):
    run = pytest.importorskip("resnets.run", reason="training install")
    keywords = inspect.signature(run.train).parameters
    assert set(keywords) >= set(DEFAULTS)
    own = list(inspect.signature(run.train.__wrapped__).parameters.values())
    assert {one.name for one in own if one.kind is not one.VAR_KEYWORD} == {
        "data",
        "model",
        *(set(keywords) - set(DEFAULTS)),
    }
    for one in own:
        if one.kind is not one.VAR_KEYWORD:
            assert keywords[one.name].default == one.default
    with pytest.raises(ValueError, match=r"unknown setting 'epoch'.*did you mean epochs"):
        run.train(tmp_path, epoch=3)


@pytest.mark.slow
def test_type_checkers_know_the_keywords(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "use.py"
    file.write_text(
        "import resnets\n"
        'resnets.train("photos", "resnet18", minutes=5.0, output="run")\n'
        'resnets.train("photos", minute=5.0)\n'
        'resnets.train("photos", minutes="five")\n'
    )
    api = pytest.importorskip("mypy.api")
    out, _, _ = api.run([str(file), "--cache-dir", str(tmp_path / "cache")])
    assert [line.split(":")[1] for line in out.splitlines() if ": error:" in line] == ["3", "4"], (
        out
    )


def test_settings_and_help_need_no_torch():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from resnets.training.settings import TrainSettings\n"
        "TrainSettings('photos')\n"
        "sys.argv = ['resnets', 'train', '--help']\n"
        "from resnets.cli import main; main()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_check_values_leaves_open_settings_alone():
    check_values(TrainSettings("photos", size=None, fit=None))
    assert Path(inspect.getfile(TrainSettings)).name == "settings.py"
