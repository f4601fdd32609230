"""The packages: imports go downward only, what reads and predicts needs no torch, and each keeps to
its size."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "src" / "resnets"

# From the floor that everybody may use to the one that uses all others. Packages of one floor do
# not import one another.
FLOORS = (
    ("files", "downloads", "settings", "imagenet", "screen", "listing", "ranges"),
    ("deep",),
    ("images",),
    ("kinds",),
    ("formats", "preprocessing", "clip", "sampling"),
    ("runtime", "foreign", "checkpoints", "timm_config"),
    ("models", "data", "training", "evaluation", "server"),
    ("tasks", "pretrained", "measuring"),
    ("summary",),
    ("modelfile",),
    ("torch_engine", "creation"),
    ("export",),
    ("run",),
    ("loading",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
# What a package may use, where that is less than its floor allows
ONLY = {
    "evaluation": ("images", "kinds", "files"),
    "server": ("images", "kinds", "runtime"),
}
# Modules that never import torch, nor anything that does
WITHOUT_TORCH = (
    *(name for floor in FLOORS[:5] for name in floor),
    "runtime",
    "evaluation",
    "server",
    "measuring",
    "data.readers",
    "data.sources",
    "data.splits",
    "data.check",
    "data.duplicates",
)
TORCH = ("torch", "torchvision", "torchmetrics", "timm", "onnxscript", "safetensors")
TOGETHER = 14_000  # lines when everything stands; a warning light, no wall
# What these packages hold is the same for every task: they import none, and name none
GENERIC = ("training", "run", "export", "runtime", "cli", "server")
TASK_WORDS = frozenset(("probabilities", "accuracy", "boxes", "mask", "logits"))
DOORS = {  # where a person asks for something that only some tasks have
    "cli.predict": {"probabilities"},  # --probs
    "cli.demo": {"boxes"},  # --task
    "cli.drawings": {"mask"},  # --masks
    "server.predictions": {"mask"},  # ?draw=
    "server.served": {"mask"},
    "server.app": {"mask"},
    "training.recipes": {"boxes", "mask"},  # rows of a task
    "training.settings": {"boxes", "mask"},  # help of --task
    "runtime.outputs": {"probabilities"},  # a key of files beside tables since the first version
}
# Lines of a file and of a function without its docstring, and arguments: beyond the first, look for
# the missing idea; beyond the second, the test fails
AIM, LIMIT = (300, 50, 6), (320, 60, 7)
TABLES = ("models.rows", "models.setting", "training.settings")  # of rows; and the command line
# Constructors whose keywords are those that users of timm and torchvision know, and the settings of
# a run
MANY_ARGUMENTS = ("models.resnet.__init__", "creation.create_model", "run.train")


def modules() -> dict[str, str]:
    """Dotted name below `resnets` to source; `resnets` itself has an empty name."""
    names = {
        path: path.relative_to(HOUSE).with_suffix("").parts for path in sorted(HOUSE.rglob("*.py"))
    }
    return {
        ".".join(part for part in parts if part != "__init__"): path.read_text("utf-8")
        for path, parts in names.items()
    }


def imports(source: str) -> Iterator[str]:
    """Everything a source imports, at whatever depth, but for the hints of `if TYPE_CHECKING`:
    `torch`, `resnets.run.spec`."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def package(module: str) -> str:
    return module.partition(".")[0]


def offences(module: str, source: str) -> list[str]:
    """What a module imports against the rules."""
    floor = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    found = []
    for name in imports(source):
        if name == "resnets.__version__" or (name == "resnets" and package(module) == "cli"):
            continue
        if package(name) != "resnets":
            if package(name) in TORCH and any(
                module == base or module.startswith(f"{base}.") for base in WITHOUT_TORCH
            ):
                found.append(f"{module} is above the torch line and imports {name}")
            continue
        target = package(name.removeprefix("resnets").removeprefix("."))
        if target not in floor:
            found.append(f"{module} imports {name}: the top floor, or a package without a floor")
        elif target != package(module) and floor[target] >= floor[package(module)]:
            found.append(f"{module} imports {name}, which is not below it")
        elif target != package(module) and target not in ONLY.get(package(module), (target,)):
            found.append(f"{module} imports {name}; allowed: {', '.join(ONLY[package(module)])}")
    return found


def lines(source: str) -> int:
    return sum(1 for line in source.splitlines() if line.strip())


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_imports_go_downward_only(module):
    assert not offences(module, modules()[module])


def test_the_top_floor_names_packages_that_exist():
    import resnets

    assert {package(name) for name in modules()} - {""} == {
        name for floor in FLOORS for name in floor
    }
    for name in resnets.__all__:
        assert getattr(resnets, name) is not None
    assert not [name for name in imports(modules()[""]) if package(name) in ("resnets", *TORCH)]


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_is_above_the_torch_line_leads_to_nothing_below_it(name):
    """No module is reached from there, through any number of imports, that imports torch."""
    sources = modules()
    waiting = [module for module in sources if module == name or module.startswith(f"{name}.")]
    assert waiting
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for found in imports(sources[module]):
            # a download that was asked for by name
            allowed = module == "data.downloads" and found == "torchvision.datasets"
            assert package(found) not in TORCH or allowed, (
                f"{name} leads to {module}, which imports {found}"
            )
            inner = found.removeprefix("resnets.")
            waiting += (
                [inner if inner in sources else inner.rpartition(".")[0]]
                if found.startswith("resnets.")
                else []
            )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models.zoo", "from resnets.data.sources import Sample"),
        ("models.zoo", "def build():\n    import resnets.data.sources"),
        ("models.zoo", "from resnets import data"),
        (
            "data.loader",
            "try:\n    from resnets.training import loop\nexcept ImportError:\n    pass",
        ),
        ("evaluation.report", "from resnets.settings import format_value"),
        (
            "tasks.classes",
            "class A:\n    def f(self):\n        from resnets.modelfile import Model",
        ),
        ("modelfile", "from resnets.export import export_model"),
        ("run.outcome", "from resnets.demo import sample_folder"),
        ("preprocessing", "from resnets.runtime import load"),
        ("images", "from resnets.preprocessing import Preprocessing"),
        ("listing", "from resnets.files import write_file"),
        ("runtime.engines", "def f():\n    import torch.nn"),
        ("data.check", "from torchvision.ops import nms"),
        ("run.start", "import resnets"),
        ("run.start", "from resnets import train"),
        ("cli.train", "from resnets import train"),
        ("export", "from resnets.attic import old"),
        ("screen", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("screen", "if not TYPE_CHECKING:\n    import torch"),
    ],
)
def test_an_offence_is_found(module, source):
    assert offences(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "models.zoo",
            "from resnets.models.layers import x\n"
            "from resnets.settings import format_value\nimport torch",
        ),
        ("tasks.classes", "from resnets.evaluation.metrics import measure"),
        (
            "runtime.engines",
            "if TYPE_CHECKING:\n    from resnets.run import train\n    import torch",
        ),
        ("cli.app", "import resnets\nfrom resnets import run, __version__"),
    ],
)
def test_what_is_allowed_is_no_offence(module, source):
    assert not offences(module, source)


def task_modules() -> set[str]:
    """`kinds.classes`, `tasks.classes`, ...: the modules of single tasks."""
    from resnets.kinds import KINDS

    return {f"{package}.{name}" for package in ("kinds", "tasks", "evaluation") for name in KINDS}


def names_a_task(module: str, source: str) -> list[str]:
    """Where a module that is to serve every task speaks of one."""
    found = []
    for name in imports(source):
        inner = name.removeprefix("resnets.")
        if inner in task_modules() or inner.rpartition(".")[0] in task_modules():
            found.append(f"{module} imports {name}, of a single task")
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        for text in _texts(node) if id(node) not in docstrings else ():
            for word in TASK_WORDS & set(re.split(r"[^a-z]+", text.lower())):
                if word not in DOORS.get(module, ()):
                    found.append(f"{module}, line {getattr(node, 'lineno', 0)}: {word}")
    return found


def _texts(node: ast.AST) -> list[str]:
    """The names and the text of a node."""
    fields = ("id", "attr", "arg", "name", "asname", "module")
    texts = [getattr(node, field, None) for field in fields]
    if isinstance(node, ast.Constant):
        texts.append(node.value)
    return [text for text in texts if isinstance(text, str)]


@pytest.mark.parametrize("module", [name for name in modules() if package(name) in GENERIC])
def test_generic_packages_name_no_task(module):
    assert not names_a_task(module, modules()[module])


@pytest.mark.parametrize(
    "source",
    [
        "from resnets.kinds.classes import CLASSES",
        "def f():\n    import resnets.tasks.classes",
        "from resnets.evaluation import classes",
        "row = {'probabilities': 1}",
        "text = 'no accuracy was measured'",
        "def f(boxes):\n    pass",
        "val_accuracy = 1",
        "x = found.mask",
        "import resnets as logits",
    ],
)
def test_a_planted_task_is_found(source):
    assert names_a_task("run.steps", source)


def test_what_is_said_in_a_docstring_names_no_task():
    assert not names_a_task("run.steps", '"""As accuracy for classes."""\nunmasked = "boxed"')


def large(module: str, source: str, most: tuple[int, int, int]) -> Iterator[str]:
    """What is longer than it should be: files, functions, signatures."""
    file, function, signature = most
    if (count := len(source.splitlines())) > file and module not in TABLES:
        yield f"{module} {count} lines"
    if package(module) == "cli":
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        name, docstring = f"{module}.{node.name}", ast.get_docstring(node)
        length = (node.end_lineno or 0) - node.lineno + 1
        length -= len(docstring.splitlines()) if docstring else 0
        arguments = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
        arguments = [one for one in arguments if one not in ("self", "cls")]
        if length > function:
            yield f"{name} {length} lines"
        if len(arguments) > signature and name not in MANY_ARGUMENTS:
            yield f"{name} {len(arguments)} arguments"


def test_sizes_are_told(capsys):
    """A warning light: lines by package, and what grew beyond the sizes of docs/architecture.md."""
    counted: dict[str, int] = {}
    found: list[str] = []
    for module, source in modules().items():
        name = package(module) or "__init__"
        counted[name] = counted.get(name, 0) + lines(source)
        found += large(module, source, AIM)
    with capsys.disabled():
        rows = "; ".join(f"{name} {count}" for name, count in sorted(counted.items()))
        print(f"\nlines: {rows}; together {sum(counted.values()):,} of about {TOGETHER:,}")  # noqa: T201
        print(f"large: {'; '.join(found) or 'nothing'}")  # noqa: T201
    assert sum(counted.values()) > 1000


@pytest.mark.parametrize("module", modules())
def test_nothing_is_too_large(module):
    assert not list(large(module, modules()[module], LIMIT))


def test_what_is_large_is_found():
    body = "\n".join(["    x = 1"] * 60)
    source = f"def f(a, b, c, d, e, g, h):\n{body}"
    assert list(large("a", source, AIM)) == ["a.f 61 lines", "a.f 7 arguments"]
    assert list(large("a", source, LIMIT)) == ["a.f 61 lines"]
    assert list(large("a", source.replace("h)", "h, i)"), LIMIT))[1:] == ["a.f 8 arguments"]
    assert list(large("a", "x = 1\n" * 301, AIM)) == ["a 301 lines"]
    assert not list(large("models.rows", "x = 1\n" * 321, LIMIT))


def test_the_network_can_be_read_at_one_sitting():
    assert len(modules()["models.resnet"].splitlines()) <= 230
