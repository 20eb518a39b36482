import json
import re
from pathlib import Path

import pytest
from PIL import Image

from abn_fast.cli import _study
from abn_fast.cli._study_page import _verdict
from tests.cli.conftest import Run

pytest.importorskip("sklearn")
TINY = ("--seeds", 2, "--epochs", 1, "--train-images", 32, "--test-images", 12, "--images", 6)


@pytest.mark.slow
def test_one_command_writes_the_page_and_does_nothing_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_study, "SPEED_IMAGES", 2)
    arguments = ("explain-study", "--out", "study", *TINY, "--write-docs", "docs/page.md")
    first = run(*arguments)
    assert first.code == 0, first.err
    page = Path("docs/page.md").read_text()
    assert "abn-fast explain-study --seeds 2 --epochs 1 --train-images 32" in page
    scores = [json.loads(Path(f"study/abn-{seed}/scores-6.json").read_text()) for seed in range(2)]
    energy = sum(each["gradcam"]["energy"] for each in scores) / 2
    assert re.search(rf"\| gradcam \| [^|]+ \| {energy:.1f} ± ", page)
    for name in re.findall(r"!\[\w+\]\((.*?)\)", page):
        with Image.open(Path("docs") / name) as picture:
            assert picture.width > 500

    again = run(*arguments)
    assert again.code == 0, again.err
    assert "..." not in again.out
    assert "epoch 1," not in again.out
    assert Path("docs/page.md").read_text() == page


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ([3, 3.2], [1, 1.2], "above"),
        ([1, 3], [2, 4], "level with"),
        ([1, 1.1], [2, 2.1], "below"),
        ([1], [1], "level with"),
    ],
)
def test_a_difference_counts_beyond_the_spread(own: list[float], other: list[float], expected: str) -> None:
    assert _verdict(own, other, high_is_good=True) == expected
    opposite = {"above": "below", "below": "above"}
    assert _verdict(own, other, high_is_good=False) == opposite.get(expected, expected)
