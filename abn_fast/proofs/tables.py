"""Rows of the proofs, summarised, as tables for people."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]
Cells = Sequence[Sequence[str]]


def machine_code(rows: Iterable[Row]) -> list[Row]:
    """The extremes of each kernel on each target."""
    return [
        {
            **names,
            "compiled": len(group),
            "registers": max(row["registers"] for row in group),
            "spills": max(row["spills"] for row in group),
            "shared": max(row["shared"] for row in group),
            "occupancy": min(row["occupancy"] for row in group),
            "vector_bits": min((row["vector_bits"] for row in group if row["vector_bits"]), default=None),
            "tensor_core": sorted({name.partition(".")[0] for row in group for name in row["tensor_core"]}),
            "ok": all(row["ok"] for row in group),
        }
        for names, group in _grouped(rows, "op", "kernel", "target")
    ]


def traffic(rows: Iterable[Row]) -> list[Row]:
    """The layout that moves most."""
    return [
        {
            **names,
            "ratio": max(row["ratio"] for row in group),
            "limit": group[0]["limit"],
            "sector_use": min(row["sector_use"] for row in group),
            "programs": min((row["programs"] for row in group if row["programs"] is not None), default=None),
            "ok": all(row["ok"] for row in group),
        }
        for names, group in _grouped(rows, "op", "direction", "case", "dtype", "counts")
    ]


def numbers(rows: Iterable[Row]) -> list[Row]:
    """The largest error over what is allowed."""
    return [
        {
            **names,
            "results": len(group),
            "worst": round(max((row["error"] / row["allowed"] for row in group if row["allowed"]), default=0.0), 3),
            "ok": all(row["ok"] for row in group),
        }
        for names, group in _grouped(rows, "op", "direction", "dtype")
    ]


def roofline(rows: Iterable[Row]) -> list[Row]:
    """The layout in which other bounds come closest to that of memory."""
    found = []
    for _, group in _grouped(rows, "op", "kernel", "direction", "card", "batch", "dtype"):
        worst = max(group, key=lambda row: row["worst_over_memory"])
        found.append({**worst, "ok": all(row["ok"] for row in group)})
    return found


SUMMARIES: dict[str, Callable[[Iterable[Row]], list[Row]]] = {
    "machine_code": machine_code,
    "traffic": traffic,
    "numbers": numbers,
    "graphs": list,
    "head": list,
    "roofline": roofline,
}


def machine_code_cells(rows: Sequence[Row]) -> Cells:
    """A line for each kernel, all targets together."""
    head = ["op", "kernel", "targets", "compiled", "registers", "spills", "shared", "occupancy", "bits", "tensor cores"]
    lines = [
        [
            names["op"],
            names["kernel"],
            str(len(group)),
            str(sum(row["compiled"] for row in group)),
            _span(row["registers"] for row in group),
            str(max(row["spills"] for row in group)),
            _span(row["shared"] for row in group),
            f"{min(row['occupancy'] for row in group):.2f}",
            _span(row["vector_bits"] for row in group if row["vector_bits"]),
            " ".join(sorted({name for row in group for name in row["tensor_core"]})),
        ]
        for names, group in _grouped(rows, "op", "kernel")
    ]
    return [head, *lines]


def traffic_cells(rows: Sequence[Row]) -> Cells:
    """A line for each op, direction, size and dtype."""
    head = ["op", "direction", "case", "dtype", "counted", "bytes / floor", "at most", "sector use", "programs"]
    lines = [
        [
            *(row[name] for name in ("op", "direction", "case", "dtype", "counts")),
            f"{row['ratio']:.3f}",
            _number(row["limit"]),
            f"{row['sector_use']:.3f}",
            _number(row["programs"]),
        ]
        for row in rows
    ]
    return [head, *lines]


def numbers_cells(rows: Sequence[Row]) -> Cells:
    """A line for each op and direction."""
    head = ["op", "direction", "results", "dtypes", "largest error / allowed"]
    lines = [
        [
            names["op"],
            names["direction"],
            str(sum(row["results"] for row in group)),
            " ".join(row["dtype"] for row in group),
            f"{max(row['worst'] for row in group):.2f}",
        ]
        for names, group in _grouped(rows, "op", "direction")
    ]
    return [head, *lines]


def roofline_cells(rows: Sequence[Row]) -> Cells:
    """A line for each kernel, dtype and batch: on each card, the largest other bound over memory's."""
    cards = list(dict.fromkeys(row["card"] for row in rows))
    head = ["op", "kernel", "dtype", "batch", "launches", "at most", *cards]
    lines = []
    for names, group in _grouped(rows, "op", "kernel", "dtype", "batch"):
        by_card = {row["card"]: f"{row['worst_over_memory']:.2f} {row['bound']}" for row in group}
        limits = " / ".join(dict.fromkeys(_number(row["limit"]) for row in group))
        most = limits or "-"
        lines.append(
            [
                names["op"],
                names["kernel"],
                names["dtype"],
                str(names["batch"]),
                str(group[0]["launches"]),
                most,
                *(by_card.get(card, "-") for card in cards),
            ]
        )
    return [head, *lines]


def graphs_cells(rows: Sequence[Row]) -> Cells:
    """A line for each model."""
    head = ["model", "breaks", "kernels", "forward ops", "backward ops"]
    lines = [
        [
            row["model"],
            str(row["breaks"]),
            " ".join(row["kernels"]),
            _names(row["forward_ops"]),
            _names(row["backward_ops"]),
        ]
        for row in rows
    ]
    return [head, *lines]


def plain_cells(rows: Sequence[Row]) -> Cells:
    """All keys of the rows but `ok`."""
    head = list(dict.fromkeys(name for row in rows for name in row if name != "ok"))
    return [head, *([_number(row.get(name)) for name in head] for row in rows)]


CELLS: dict[str, Callable[[Sequence[Row]], Cells]] = {
    "machine_code": machine_code_cells,
    "traffic": traffic_cells,
    "numbers": numbers_cells,
    "graphs": graphs_cells,
    "head": plain_cells,
    "roofline": roofline_cells,
}
TITLES = {
    "machine_code": "Machine code, compiled ahead of time",
    "traffic": "Bytes moved, counted in Triton's interpreter",
    "numbers": "Errors against float64, in Triton's interpreter",
    "graphs": "Graphs of a training step",
    "head": "The whole head, forward and backward, against the published one",
    "roofline": "Roofline, computed and not measured: the largest other bound over that of memory, and what bounds",
}


def text(name: str, rows: Sequence[Row]) -> str:
    """The table of a proof for a terminal."""
    cells = CELLS[name](SUMMARIES[name](rows))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([TITLES[name], *(f"  {line}" for line in lines)])


def markdown(data: dict[str, Any]) -> str:
    """The tables of summarised proofs."""
    parts = []
    for name, section in data.items():
        head, *lines = CELLS[name](section["rows"])
        made = section["versions"]
        table = [_line(head), _line(["---"] * len(head)), *map(_line, lines)]
        parts.append(
            "\n".join(
                [
                    f"### {TITLES[name]}",
                    "",
                    f"`abn-fast kernels check --only {name}`, Triton {made['triton']}, torch {made['torch']}.",
                    "",
                    *table,
                    "",
                ]
            )
        )
    return "\n".join(parts)


def _grouped(rows: Iterable[Row], *names: str) -> list[tuple[Row, list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return [(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]


def _span(values: Iterable[int]) -> str:
    found = sorted(set(values))
    if not found:
        return "-"
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _names(ops: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(op.removeprefix("abn_fast.").removesuffix(".default") for op in ops))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
