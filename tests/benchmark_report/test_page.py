import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from abn_fast.benchmark_report import Case, Change
from abn_fast.benchmark_report.html import page
from abn_fast.benchmark_report.plots import step_plot, sweep_plot, sweeps, throughput_plot
from tests.benchmark_report._made_up import BATCHES, MEMORY, RESULTS, STEP, comparison, results

VOID = {"meta", "br"}


class Checked(HTMLParser):
    """Tags that close in order, and what they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html)


def test_the_page_is_well_formed_and_needs_no_other_file() -> None:
    html = page(RESULTS)
    parser = Checked()
    parser.feed(html)
    assert parser.open == []
    assert all(source.startswith("#") for source in parser.sources)
    assert "@import" not in html
    assert "<script" not in html
    assert not re.search(r"url\((?!#)", html)


def test_where_a_peer_is_better_comes_before_all_plots_and_tables() -> None:
    html = page(RESULTS)
    heading = html.index("A peer is better in 1 of 8 comparisons")
    assert heading < html.index("<svg")
    assert heading < html.index("<h2>inference</h2>")
    lost = html[heading : html.index("</div>", heading)]
    assert str(STEP[2].case) in lost
    assert '<td class="worse">0.40</td>' in lost


def test_a_page_without_losses_says_so() -> None:
    assert "No peer is better in any of 3 comparisons" in page(results(*BATCHES))


def test_the_page_tells_machine_versions_failures_and_wanted_ratios() -> None:
    text = " ".join(text_of(page(RESULTS)).split())
    for part in ("Abacus 9000", "avx2, amx_bf16", "torch 9.9", "2030-01-02 03:04", "test_a.py::test_x", "4.00 2"):
        assert part in text, part


def test_names_cannot_break_the_page() -> None:
    assert "assert 1 &lt; 0 &lt;b&gt;" in page(RESULTS)
    assert "<i>" not in page(results(comparison(Case("<i>"), 1.0, 2.0)))


def test_what_got_slower_is_told_with_its_factor() -> None:
    html = page(RESULTS, [Change(replace(BATCHES[0], ours=STEP[0].ours), BATCHES[0], 9.25)], "old.json")
    assert "Against old.json" in html
    assert "9.25" in html
    assert "Nothing got slower" in page(RESULTS, [], "old.json")
    assert "Against" not in page(RESULTS)


def test_points_that_differ_in_one_number_make_a_plot() -> None:
    [found] = sweeps(RESULTS.comparisons)
    assert (found.along, found.case.batch, found.quantity) == ("batch", 0, "seconds")
    assert {name: sorted(points) for name, points in found.lines.items()} == {
        "ours": [1, 4, 16],
        "published": [1, 4, 16],
    }
    assert found.lines["published"][4].median == pytest.approx(0.08)


def test_a_single_point_makes_none() -> None:
    assert sweeps([MEMORY, BATCHES[0]]) == []


def test_throughput_is_images_over_seconds() -> None:
    [found] = sweeps(BATCHES)
    plot = throughput_plot(found)
    assert plot is not None
    assert "images a second" in plot
    assert "published" in sweep_plot(found)
    assert throughput_plot(found._replace(along="classes")) is None


def test_a_step_is_drawn_by_its_parts() -> None:
    plot = step_plot(STEP)
    assert plot is not None
    for word in ("forward", "backward", "optimizer", "abn_vgg16"):
        assert word in plot
    assert "data" not in re.findall(r">(\w+)</text>", plot)
    assert step_plot(BATCHES) is None
