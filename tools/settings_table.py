"""Write docs/settings.md from the fields of `TrainSettings`; a test holds the two together.

python tools/settings_table.py
"""

from pathlib import Path

from resnets.settings import about, default_of
from resnets.training.settings import TrainSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

The settings of a training run: options of `resnets train`, keywords of `resnets.train`, and keys of
a file for `--config`. What is not set is chosen from the data and the weights, and printed with the
reason. This page is made by `python tools/settings_table.py`.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    told = about(TrainSettings)
    for group in dict.fromkeys(one.group for one in told.values()):
        parts.append(f"## {group}\n")
        parts.append("| Setting | Option | What it is | Allowed | Default |\n|---|---|---|---|---|")
        for name, one in told.items():
            if one.group == group:
                option = ", ".join(f"`{flag}`" for flag in one.flags) or f"`--{dashed(name)}`"
                option = "`DATA`" if name == "data" else option
                default = default_of(TrainSettings, name)
                row = (f"`{name}`", option, one.help, one.allowed(), default)
                parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
        parts.append("")
    return "\n".join(parts)


def dashed(name: str) -> str:
    """As it is typed after two dashes."""
    return name.replace("_", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
