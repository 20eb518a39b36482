"""What mkdocs puts in the place of a line such as {{ section("README.md", "Install") }}.

Text that stands elsewhere in the repository, the help of the commands, and figures from the JSON files that commands
write. Each public function is one of them and returns Markdown.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BENCH = DOCS / "bench.json"
STUDY = DOCS / "explanations.md"
RATIO = "peer / ours"

_CALL = re.compile(r"^\{\{ (\w+)\((.*)\) \}\}$", re.MULTILINE)
_STRING = re.compile(r'"([^"]*)"')
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")

Row = dict[str, Any]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mkdocs calls this with each page."""
    return _CALL.sub(lambda call: FILLS[call[1]](*_STRING.findall(call[2])), markdown)


def section(file: str, heading: str) -> str:
    """The text below a heading of second rank of a file of the repository; "" for that above the first."""
    text = re.sub(r"\A# .*\n", "", (ROOT / file).read_text())
    parts = re.split(r"^## (.*)\n", f"## \n{text}", flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if heading not in sections:
        raise KeyError(f"{file} has no section {heading!r}: {', '.join(sections)}")
    return _LINK.sub(_link, sections[heading].strip())


def whole(file: str) -> str:
    """A file of the repository without its title."""
    return _LINK.sub(_link, re.sub(r"\A# .*\n", "", (ROOT / file).read_text()).strip())


def short_names() -> str:
    """The names of `abn_fast`, and where each is described."""
    import abn_fast

    lines = ["| name | of |", "| --- | --- |"]
    for home, names in abn_fast._HOMES.items():
        page = home.removeprefix("abn_fast.")
        lines += [f"| [`{name}`]({page}.md#{_path(home, name)}) | `{home}` |" for name in names]
    return "\n".join(lines)


def public_names(package: str) -> str:
    """The reference of each public name, from where it is defined: a package's module may have the name's own name."""
    names = import_module(package).__all__
    return "\n\n".join(f"::: {_path(package, name)}\n    options:\n      heading_level: 2" for name in names)


def commands() -> str:
    """The help of every command."""
    from abn_fast.cli.main import commands

    return "\n\n".join(_help(commands, "abn-fast"))


def head_bytes() -> str:
    """What the head moves in a training step beside the published one, from docs/kernels.json."""
    rows = [
        {
            "case": row["case"],
            "ours, MB": row["bytes"] / 1e6,
            "published head under Inductor, MB": row["peer_bytes"] / 1e6,
            "ours / published": row["ratio"],
            "saved for backward, MB": row["saved_bytes"] / 1e6,
        }
        for row in _kernels("head")["rows"]
    ]
    return _table(rows) + _made_with("abn-fast kernels check --only head", _kernels("head"))


def bytes_over_floor() -> str:
    """Bytes that each op moves over its floor, the worst of all cases, from docs/kernels.json."""
    worst: dict[tuple[str, str], Row] = {}
    for row in _kernels("traffic")["rows"]:
        key = row["op"], row["direction"]
        if key not in worst or row["ratio"] > worst[key]["ratio"]:
            worst[key] = row
    rows = [
        {
            "op": f"`{op}`",
            "direction": direction,
            "bytes / floor": row["ratio"],
            "in the case": f"{row['case']}, {row['dtype']}",
        }
        for (op, direction), row in worst.items()
    ]
    return _table(rows) + _made_with("abn-fast kernels check --only traffic", _kernels("traffic"))


def bench() -> str:
    """The tables of docs/bench.json, which `abn-fast bench --write-docs` wrote; first where a peer is better.

    {suite: {"versions": {...}, "rows": [{...}, ...]}}
    """
    if not BENCH.is_file():
        return "No results are kept in this repository yet: run the bench on your machine."
    suites = json.loads(BENCH.read_text())
    every = [row for suite in suites.values() for row in suite["rows"] if RATIO in row]
    lost = sorted((row for row in every if row[RATIO] < 1), key=lambda row: float(row[RATIO]))
    parts = [f"A peer is better in {len(lost)} of {len(every)} comparisons:\n\n{_table(lost)}" if lost else ""]
    for name, suite in suites.items():
        parts.append(f"### {name}\n\n{_table(suite['rows'])}\n\n{_versions(suite)}")
    return "\n\n".join(parts)


def study() -> str:
    """A link to the study of explanation methods, where there is one."""
    if not STUDY.is_file():
        return ""
    return f"[What a study of these methods found]({STUDY.name}), with the command that made it."


FILLS: dict[str, Callable[..., str]] = {
    fill.__name__: fill
    for fill in (section, whole, short_names, public_names, commands, head_bytes, bytes_over_floor, bench, study)
}


def _path(package: str, name: str) -> str:
    found = getattr(import_module(package), name)
    is_defined = inspect.isclass(found) or inspect.isfunction(found)
    return f"{found.__module__ if is_defined else package}.{name}"


def _link(match: re.Match[str]) -> str:
    """A link of a file at the root, as seen from docs/; of what is not on the site the text alone."""
    text, target = match.groups()
    pages = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    return f"[{text}]({pages[target]})" if target in pages else text


def _help(command: click.Command, name: str) -> Iterable[str]:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from _help(each, f"{name} {each.name}")
    else:
        context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
        yield f"### {name.removeprefix('abn-fast ')}\n\n```text\n{command.get_help(context)}\n```"


def _kernels(proof: str) -> Row:
    found: Row = json.loads((DOCS / "kernels.json").read_text())[proof]
    return found


def _table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _made_with(command: str, proof: Row) -> str:
    return f"\n\n`{command}` {_versions(proof)}"


def _versions(result: Row) -> str:
    shown = [f"{name} {version}" for name, version in result.get("versions", {}).items() if name != "sources"]
    return f"({', '.join(shown)})"
