"""The packages: imports go downward only, what reads and predicts needs no torch, and each keeps to
its size."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "src" / "resnets"

# From the floor that everybody may use to the one that uses all others. Packages of one floor do
# not import one another.
FLOORS = (
    ("files", "downloads", "settings", "imagenet", "screen", "listing", "ranges"),
    ("deep", "kinds"),
    ("images", "formats"),
    ("preprocessing",),
    ("runtime", "foreign", "checkpoints", "timm_config"),
    ("models", "data", "training", "evaluation"),
    ("tasks", "pretrained"),
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
ONLY = {"evaluation": ("images", "kinds", "files")}
# Modules that never import torch, nor anything that does
WITHOUT_TORCH = (
    *(name for floor in FLOORS[:4] for name in floor),
    "runtime",
    "evaluation",
    "data.readers",
    "data.sources",
    "data.splits",
    "data.check",
    "data.duplicates",
)
TORCH = ("torch", "torchvision", "torchmetrics", "timm", "onnxscript", "safetensors")
TOGETHER = 14_000  # lines when everything stands; a warning light, no wall
FILE, FUNCTION, ARGUMENTS = 300, 50, 6  # beyond that, look for the missing idea
TABLES = ("models.rows", "models.setting", "models.weights")  # of rows; and the command line


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


def room(module: str) -> str:
    return module.partition(".")[0]


def offences(module: str, source: str) -> list[str]:
    """What a module imports against the rules."""
    floor = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    found = []
    for name in imports(source):
        if name == "resnets.__version__" or (name == "resnets" and room(module) == "cli"):
            continue
        if room(name) != "resnets":
            if room(name) in TORCH and any(
                module == base or module.startswith(f"{base}.") for base in WITHOUT_TORCH
            ):
                found.append(f"{module} is above the torch line and imports {name}")
            continue
        target = room(name.removeprefix("resnets").removeprefix("."))
        if target not in floor:
            found.append(f"{module} imports {name}: the top floor, or a room without a floor")
        elif target != room(module) and floor[target] >= floor[room(module)]:
            found.append(f"{module} imports {name}, which is not below it")
        elif target != room(module) and target not in ONLY.get(room(module), (target,)):
            found.append(f"{module} imports {name}; allowed: {', '.join(ONLY[room(module)])}")
    return found


def lines(source: str) -> int:
    return sum(1 for line in source.splitlines() if line.strip())


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_imports_go_downward_only(module):
    assert not offences(module, modules()[module])


def test_the_top_floor_names_rooms_that_exist():
    import resnets

    assert {room(name) for name in modules()} - {""} == {name for floor in FLOORS for name in floor}
    for name in resnets.__all__:
        assert getattr(resnets, name) is not None
    assert not [name for name in imports(modules()[""]) if room(name) in ("resnets", *TORCH)]


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
            assert room(found) not in TORCH or allowed, (
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
        ("evaluation.report", "from resnets.settings import words"),
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
            "from resnets.models.layers import x\nfrom resnets.settings import words\nimport torch",
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


def large(module: str, source: str) -> Iterator[str]:
    """What is longer than it should be: files, functions, signatures."""
    if (count := len(source.splitlines())) > FILE and module not in TABLES:
        yield f"{module} {count} lines"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        docstring = ast.get_docstring(node)
        length = (node.end_lineno or 0) - node.lineno + 1
        length -= len(docstring.splitlines()) if docstring else 0
        arguments = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
        arguments = [name for name in arguments if name not in ("self", "cls")]
        if length > FUNCTION:
            yield f"{module}.{node.name} {length} lines"
        if len(arguments) > ARGUMENTS and room(module) != "cli":
            yield f"{module}.{node.name} {len(arguments)} arguments"


def test_sizes_are_told(capsys):
    """A warning light: lines by package, and what grew beyond the sizes of docs/architecture.md."""
    counted: dict[str, int] = {}
    found: list[str] = []
    for module, source in modules().items():
        name = room(module) or "__init__"
        counted[name] = counted.get(name, 0) + lines(source)
        found += large(module, source)
    with capsys.disabled():
        rows = "; ".join(f"{name} {count}" for name, count in sorted(counted.items()))
        print(f"\nlines: {rows}; together {sum(counted.values()):,} of about {TOGETHER:,}")  # noqa: T201
        print(f"large: {'; '.join(found) or 'nothing'}")  # noqa: T201
    assert sum(counted.values()) > 1000


def test_what_is_large_is_found():
    body = "\n".join(["    x = 1"] * 60)
    assert list(large("a", f"def f(a, b, c, d, e, g, h):\n{body}")) == [
        "a.f 61 lines",
        "a.f 7 arguments",
    ]
    assert list(large("a", "x = 1\n" * 301)) == ["a 301 lines"]
    assert not list(large("models.rows", "x = 1\n" * 301))


def test_the_network_can_be_read_at_one_sitting():
    assert len(modules()["models.resnet"].splitlines()) <= 250
