"""What the documents say: code that compiles, commands and functions that exist, links that lead
somewhere, two languages alike."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.ko.md")
DOCUMENTS = (
    *READMES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/adding-a-task.md",
    "docs/data.md",
    "docs/precision.md",
    "docs/predictions.md",
    "docs/recipes.md",
    "docs/scale.md",
    "docs/serving.md",
    "docs/settings.md",
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name):
    return (ROOT / name).read_text("utf-8")


def blocks(name, language):
    return [text for kind, text in BLOCK.findall(read(name)) if kind == language]


def options(name):
    """Flags that a document types after `resnets VERB`, or alone as `--flag`; those have no
    verb."""
    found = set()
    for line in (
        re.findall(r"`([^`\n]+)`", read(name)) + "\n".join(blocks(name, "console")).splitlines()
    ):
        verb = re.search(r"\bresnets (\w+)", line)
        if verb or line.startswith("--"):
            command = line[verb.start() if verb else 0 :].partition("#")[0]
            found |= {
                (verb[1] if verb else "", flag)
                for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]+", command)
            }
    return found


def verbs():
    from typer.main import get_command

    from resnets.cli.app import app

    commands = get_command(app).commands.items()
    return {
        name: {flag for parameter in verb.params for flag in parameter.opts}
        for name, verb in commands
    }


@pytest.mark.parametrize("name", READMES)
def test_python_in_the_readme_compiles_and_names_what_exists(name):
    resnets = pytest.importorskip("torch") and importlib.import_module("resnets")
    assert blocks(name, "python")
    for text in blocks(name, "python"):
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "resnets"
            ):
                assert hasattr(resnets, node.attr), node.attr
            if isinstance(node, ast.ImportFrom) and node.module == "resnets":
                assert all(hasattr(resnets, alias.name) for alias in node.names)


def test_python_is_the_same_in_both_readmes():
    assert [ast.dump(ast.parse(text)) for text in blocks(READMES[0], "python")] == [
        ast.dump(ast.parse(text)) for text in blocks(READMES[1], "python")
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_their_flags_exist(name):
    known = verbs()
    typed = re.findall(r"[`$&] ?resnets (?!\.)([a-z]+)", read(name))
    assert set(typed) <= set(known)
    for verb, flag in options(name):
        every = [known[verb] | {"--help"}] if verb else known.values()
        assert any(flag in flags for flags in every), f"{verb} {flag}"


@pytest.mark.parametrize("name", READMES)
def test_every_verb_is_in_the_readme(name):
    assert not [verb for verb in verbs() if f"`resnets {verb}" not in read(name)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", read(name)):
        if not target.startswith("http"):
            assert (ROOT / name).parent.joinpath(target.partition("#")[0]).exists(), target


def test_files_that_documents_name_exist():
    for name in DOCUMENTS:
        for path in re.findall(
            r"`((?:src|tests|tools|docs|benchmarks|\.ci)/[\w./-]*)`", read(name)
        ):
            assert (ROOT / path).exists(), f"{name}: {path}"


def test_both_readmes_have_the_same_parts():
    first, second = (
        [re.sub(r"[^#].*", "", line) for line in read(name).splitlines() if line.startswith("#")]
        for name in READMES
    )
    assert first == second
    assert [kind for kind, _ in BLOCK.findall(read(READMES[0]))] == [
        kind for kind, _ in BLOCK.findall(read(READMES[1]))
    ]
    for mark in (r"^\|", r"^- ", r"\]\("):
        assert len(re.findall(mark, read(READMES[0]), re.MULTILINE)) == len(
            re.findall(mark, read(READMES[1]), re.MULTILINE)
        )
    assert set(re.findall(r"\d[\d.,]*\d", read(READMES[0]))) == set(
        re.findall(r"\d[\d.,]*\d", read(READMES[1]))
    )


def test_the_networks_are_counted():
    resnets = pytest.importorskip("torch") and importlib.import_module("resnets")
    count = len(resnets.list_models())
    assert f"\n{count} by name" in read("README.md")
    assert f"이름이 있는 신경망은 {count}개" in read("README.ko.md")
    assert f"names {count} networks" in read("docs/architecture.md")
    assert f"Networks: {count} by name" in read("CHANGELOG.md")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_left_open(name):
    assert not re.findall(r"\{\{.*?\}\}|TODO|FIXME|TBD", read(name))


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/adding-a-task.md"])
def test_the_structure_that_documents_describe_exists(document):
    pytest.importorskip("torch")
    packages = {path.stem for path in (ROOT / "src/resnets").iterdir()}
    dotted = re.findall(r"`([a-z]\w*(?:\.\w+)+)`", read(document))
    named = [name for name in dotted if name.partition(".")[0] in packages]
    assert len(named) > 20
    for name in named:
        parts = ["resnets", *name.split(".")]
        depth = next(
            depth for depth in range(len(parts), 0, -1) if is_module(".".join(parts[:depth]))
        )
        found = importlib.import_module(".".join(parts[:depth]))
        for part in parts[depth:]:
            found = getattr(found, part)


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
