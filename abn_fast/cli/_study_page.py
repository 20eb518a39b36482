"""The page of the study: tables, pictures, and sentences that follow from the figures."""

import shutil
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path

from abn_fast.cli._demo_recipe import BACKBONE, BASELINE_EPOCHS
from abn_fast.cli._score_table import heading
from abn_fast.cli._study import AREA_WEIGHT, KINDS, SANITY_IMAGES, STABILITY_IMAGES, Study

_NAMES = {"abn": "ABN", "baseline": "plain"}
_TRAININGS = {
    "abn": "as everywhere on this page",
    "area-cost": f"with a cost on the map's area, `loss.map_area_weight={AREA_WEIGHT:g}`, which the paper has not",
    "longer": "for twice the epochs",
}
_CONTROLS = ("random", "centre", "inverted")


def write_page(study: Study, path: Path, command: str) -> None:
    """Write the page, and its pictures into a folder `explanations/` beside it."""
    from abn_fast.training.run import write_text

    pictures = path.parent / path.stem
    pictures.mkdir(parents=True, exist_ok=True)
    for name in ("methods.png", "seeds.png"):
        shutil.copyfile(study.folder / name, pictures / name)
    parts = [
        _opening(study, command),
        _accuracy(study),
        _scores(study),
        _comparison(study),
        _energy(study),
        _sanity(study),
        _stability(study),
        _speed(study),
        _pictures(path.stem),
    ]
    write_text(path, "\n\n".join(parts) + "\n")


def _opening(study: Study, command: str) -> str:
    from abn_fast.explain.score import COLUMNS

    settings = study.settings
    about = "\n".join(
        f"- **{column.title}** ({'high' if column.high_is_good else 'low'} is good): {column.about}."
        for name, column in COLUMNS.items()
        if name != "milliseconds"
    )
    first = f"""writes this page; no figure in it was typed by hand. DigitsInTheWild: real handwritten digits at
        random places of real photographs, whose boxes are known. An ABN (`abn_{BACKBONE}`) and its plain baseline
        (`{BACKBONE}`, {BASELINE_EPOCHS:g} times the epochs, in about the same time); {settings["epochs"]} epochs of
        {settings["train_images"]:,} images, {settings["seeds"]} seeds. Maps are scored on {settings["images"]} held-out
        images and explain the class that the network predicts. Figures are means over the seeds ± their standard
        deviation, percentages unless said otherwise. Machine: {study.machine}."""
    controls = """Controls: *random* maps, a Gaussian on the *centre*, the first method's maps *inverted*. A metric
        tells something where the methods leave them behind. A sigmoid has no zero: the ABN's map leaves some value
        everywhere, while CAM, Grad-CAM and class evidence are cut at 0 by a ReLU; *energy > 1/2* treats all alike. The
        sources of the metrics stand in the documentation of `abn_fast.explain.metrics`."""
    return "\n\n".join(["# Explanations, measured", f"    {command}", _filled(first), about, _filled(controls)])


def _accuracy(study: Study) -> str:
    rows = [[_NAMES[kind], _spread(study.accuracy[kind])] for kind in KINDS]
    abn, plain = (study.accuracy[kind] for kind in KINDS)
    verdict = _verdict(abn, plain, high_is_good=True)
    time = BASELINE_EPOCHS * study.speed["baseline: a step of training"] / study.speed["abn: a step of training"]
    return (
        "## Accuracy at equal budget\n\n"
        + _table(["", f"top-1, {study.settings['test_images']:,} images"], rows)
        + f"\n\nThe ABN's accuracy is {verdict} the plain network's, whose training takes {time:.2f} times as long."
    )


def _scores(study: Study) -> str:
    from abn_fast.explain.score import COLUMNS

    parts = ["## Every method by every metric"]
    for kind, seeds in study.scores.items():
        columns = [name for name in COLUMNS if name != "milliseconds" and any(name in row for row in seeds[0].values())]
        rows = [
            [method if not method.startswith(_CONTROLS) else f"*{method}*"]
            + [_spread([seed[method][name] for seed in seeds]) for name in columns]
            for method in seeds[0]
        ]
        parts.append(f"{'ABN' if kind == 'abn' else 'Plain baseline'}:")
        parts.append(_table(["", *(heading(name) for name in columns)], rows))
    return "\n\n".join(parts)


def _comparison(study: Study) -> str:
    """Where the attention map wins and loses, as the figures have it."""
    from abn_fast.explain.score import COLUMNS

    own = [seed["abn"] for seed in study.scores["abn"]]
    rivals = {
        "Grad-CAM of the same network": [seed["gradcam"] for seed in study.scores["abn"]],
        "Grad-CAM of the plain baseline": [seed["gradcam"] for seed in study.scores["baseline"]],
    }
    parts = ["## Where the attention map wins and where it loses"]
    for rival, theirs in rivals.items():
        outcome: dict[str, list[str]] = {"above": [], "level with": [], "below": []}
        for name, column in COLUMNS.items():
            if name == "milliseconds" or name not in own[0]:
                continue
            ours_, theirs_ = [seed[name] for seed in own], [seed[name] for seed in theirs]
            words = f"{column.title} ({_spread(ours_)} against {_spread(theirs_)})"
            outcome[_verdict(ours_, theirs_, column.high_is_good)].append(words)
        parts.append(
            f"Against {rival} the ABN's attention map\n\n"
            f"- is better in {_list(outcome['above'])};\n"
            f"- is equal within the spread in {_list(outcome['level with'])};\n"
            f"- **loses** in {_list(outcome['below'])}."
        )
    inverted = [seed["inverted abn"]["pointing_game"] for seed in study.scores["abn"]]
    if statistics.mean(inverted) > 50:
        parts.append(
            _filled(
                f"""The inverted map hits the box too ({_spread(inverted)} in the pointing game): the map has its
                highest and its lowest values in and around the digit, bright beside strokes and dark on some of them,
                while the background lies between. The pointing game alone does not tell such a map from its opposite;
                deletion, insertion and ROAD do."""
            )
        )
    parts.append("*Within the spread*: the means differ by no more than the larger of the two standard deviations.")
    return "\n\n".join(parts)


def _energy(study: Study) -> str:
    names = list(study.variants[0])
    columns = {
        "energy": "energy ↑",
        "pointing_game": "pointing game ↑",
        "inverted_pointing_game": "inverted map's pointing game ↓",
        "best_iou": "best IoU ↑",
    }
    rows = [[name, *(_spread([seed[name][key] for seed in study.variants]) for key in columns)] for name in names]
    base = [seed[names[0]]["energy"] for seed in study.variants]
    rival = [seed["gradcam"]["energy"] for seed in study.scores["abn"]]
    helped = []
    for name in names[1:]:
        values = [seed[name]["energy"] for seed in study.variants]
        if _verdict(values, base, True) == "above":
            reaches = _verdict(values, rival, True) != "below"
            helped.append(f"{name} ({_spread(values)}{', at least Grad-CAM' if reaches else ''})")
    trained = [
        [_TRAININGS[kind], *(_spread([seed[key] for seed in seeds]) for key in ("top1", *columns))]
        for kind, seeds in study.trainings.items()
    ]
    useless = [
        name for name in names[1:] if _verdict([seed[name]["energy"] for seed in study.variants], base, True) != "above"
    ]
    return "\n\n".join(
        [
            "## What raises the energy in the box",
            "Other readings of the same maps, without training anything anew:",
            _table(["", *columns.values()], rows),
            f"Grad-CAM of the same network has {_spread(rival)} by itself.",
            f"- Helped: {'; '.join(helped) or 'nothing'}.\n- Did not: {'; '.join(useless) or 'none'}.",
            _filled(
                """M = 1/2 is where the score before the sigmoid is 0, so that max(M - 1/2, 0) keeps what speaks for
                attending, as the ReLU of CAM and Grad-CAM keeps what speaks for the class. The same cut of every
                method is the column *energy > 1/2* above."""
            ),
            f"Other ways of training, {len(study.trainings['abn'])} seeds:",
            _table(["", "top-1 ↑", *columns.values()], trained),
        ]
    )


def _sanity(study: Study) -> str:
    methods = list(study.sanity)
    count = min(SANITY_IMAGES, study.settings["images"])
    layers = [layer for layer, _ in study.sanity[methods[0]][0]]
    rows = [
        [f"`{layer}`", *(_spread([seed[index][1] for seed in study.sanity[method]], 2) for method in methods)]
        for index, layer in enumerate(layers)
    ]
    return "\n\n".join(
        [
            "## Do maps depend on what was learnt?",
            _filled(
                f"""Rank correlation (1 is the same order of pixels) of the ABN's maps with those after its layers were
                initialised again, from the top down to each row, for the same class, on {count} images:"""
            ),
            _table(["down to", *methods], rows),
            _filled(
                """The attention map and the class evidence come from the attention branch and cannot notice what
                happens to the perception branch, which makes the prediction: they explain what it is told to look at,
                not what it does with it. Their test are the rows below."""
            ),
        ]
    )


def _stability(study: Study) -> str:
    count = min(STABILITY_IMAGES, study.settings["images"])
    rows = []
    for kind, methods in study.shift.items():
        for method in methods[0]:
            agreement = study.seeds.get(kind, {}).get(method)
            rows.append(
                [
                    f"{_NAMES[kind]}: {method}",
                    "-" if agreement is None else f"{agreement:.2f}",
                    _spread([seed[method] for seed in methods], 2),
                ]
            )
    return "\n\n".join(
        [
            "## Stability",
            _filled(
                f"""Mean rank correlation of maps, on {count} images: of the same image in networks of different seeds
                (maps for the true class), and of an image moved by 2 pixels up, down, left and right, the map moved
                back:"""
            ),
            _table(["", "over seeds ↑", "over shifts ↑"], rows),
        ]
    )


def _speed(study: Study) -> str:
    rows = [[name.replace("baseline", "plain"), f"{value:.2f}"] for name, value in study.speed.items()]
    own, plain = study.speed["abn: prediction and abn"], study.speed["baseline: prediction"]
    gradcam = study.speed["baseline: prediction and gradcam"]
    return "\n\n".join(
        [
            "## Time",
            "Milliseconds an image, the fastest of six; batches of 128, in training 16:",
            _table(["", "ms"], rows),
            _filled(
                f"""Prediction and attention map of the ABN take {own / plain:.2f} times the plain network's prediction
                alone, and {own / gradcam:.2f} times its prediction with Grad-CAM."""
            ),
        ]
    )


def _pictures(folder: str) -> str:
    return f"""## Pictures

Maps of the true class as they are, on a common scale from 0 to 1, with the digit's box, seed 0:

![methods]({folder}/methods.png)

The attention map over the seeds:

![seeds]({folder}/seeds.png)"""


def _verdict(own: Sequence[float], other: Sequence[float], high_is_good: bool) -> str:
    """Whether it is "above", "level with" or "below", as far as the spread lets one tell."""
    difference = (statistics.mean(own) - statistics.mean(other)) * (1 if high_is_good else -1)
    spread = max(_deviation(own), _deviation(other))
    if abs(difference) <= spread:
        return "level with"
    return "above" if difference > 0 else "below"


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _spread(values: Sequence[float], digits: int = 1) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {_deviation(values):.{digits}f}"


def _list(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts) or "nothing"
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _filled(text: str) -> str:
    """A paragraph in lines of a page."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
