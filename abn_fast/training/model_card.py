from typing import Any

from abn_fast._version import __version__
from abn_fast.training._paper import beyond_the_paper
from abn_fast.training.config import TrainingConfig
from abn_fast.training.run import RunFolder, flat_settings, write_text


def write_model_card(folder: RunFolder, settings: dict[str, Any], summary: dict[str, Any]) -> None:
    """Write README.md beside the checkpoint: what was trained, on what and how, and what came out.

    Args:
        folder: of the run.
        settings: of the run, as in run.json.
        summary: as in summary.json.
    """
    write_text(folder.model_card, _text(folder, settings, summary))


def _text(folder: RunFolder, settings: dict[str, Any], summary: dict[str, Any]) -> str:
    training, departs = settings["training"], settings.get("departs") or []
    beyond = beyond_the_paper(TrainingConfig.from_dict(training))
    lines = [
        f"# {summary['model']} on {settings['data']['data']}",
        "",
        settings.get("about") or "Trained with abn_fast.",
        "",
        "| | |",
        "| --- | --- |",
        f"| model | `{summary['model']}`, {summary['parameters'] / 1e6:.2f} M parameters |",
        *(f"| {name} | {value} |" for name, value in flat_settings(training).items()),
        f"| time | {summary['seconds']:.0f} s |",
        f"| first step | {summary['first_step_seconds']:.2f} s |",
        f"| steps after it | {summary['images_per_second']:.0f} images/s |",
        f"| abn_fast | {__version__} |",
        "",
        "## Results",
        "",
        "| | last epoch |" + (" best epoch on the validation set |" if "best" in summary else ""),
        "| --- | --- |" + (" --- |" if "best" in summary else ""),
    ]
    for name, value in summary.items():
        if name.startswith(("test_", "validation_")) and "." not in name:
            best = f" {summary['best'][name]:.4g} |" if "best" in summary else ""
            lines.append(f"| {name.replace('_', ' ')} | {value:.4g} |{best}")
    if departs:
        lines += ["", "Departs from the recipe: " + ", ".join(f"`{each}`" for each in departs) + "."]
    if beyond:
        lines += ["", "In no recipe of the paper: " + ", ".join(f"`{each}`" for each in beyond) + "."]
    lines += [
        "",
        "```python",
        "from abn_fast import load_checkpoint",
        f'model = load_checkpoint("{folder.checkpoint.name}")',
        "```",
    ]
    return "\n".join(lines) + "\n"
