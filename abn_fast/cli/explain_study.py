from pathlib import Path

import click

from abn_fast.cli._demo_recipe import EPOCHS, TEST_IMAGES, TRAIN_IMAGES


@click.command()
@click.option("--out", default="runs/study", show_default=True, type=click.Path(), help="Folder of all files.")
@click.option("--seeds", type=int, default=5, show_default=True, help="Networks of either kind, seeds 0, 1, ...")
@click.option(
    "--epochs", type=int, default=EPOCHS, show_default=True, help="Of the ABN; the baseline has as much time."
)
@click.option("--train-images", type=int, default=TRAIN_IMAGES, show_default=True)
@click.option(
    "--test-images", type=int, default=TEST_IMAGES, show_default=True, help="Held-out images of the accuracy."
)
@click.option("--images", type=int, default=500, show_default=True, help="Of these, how many the maps are scored on.")
@click.option("--write-docs", type=click.Path(), metavar="PAGE", help="Write the page there, its pictures beside it.")
def explain_study(
    out: str, seeds: int, epochs: int, train_images: int, test_images: int, images: int, write_docs: str | None
) -> None:
    """Measure the explanations of ABNs and their plain baselines on digits in photographs, over several seeds.

    Trains as `quickstart` does, scores every method by every metric, and tells how far the seeds agree. Each network
    and its scores have a folder of their own: interrupted, the study goes on where it was when called again.
    """
    from abn_fast._checks import checked_whole
    from abn_fast.cli._study import run_study
    from abn_fast.cli._study_page import write_page

    for name, value in (("seeds", seeds), ("images", images)):
        checked_whole(name, value)
    folder = Path(out)
    study = run_study(folder, seeds, epochs, train_images, test_images, min(images, test_images))
    command = "abn-fast explain-study" + _departures(
        seeds=seeds, epochs=epochs, train_images=train_images, test_images=test_images, images=images
    )
    pages = [folder / "explanations.md"] + ([] if write_docs is None else [Path(write_docs)])
    for page in pages:
        write_page(study, page, command if write_docs is None else f"{command} --write-docs {write_docs}")
        click.echo(f"{page}")


def _departures(**options: int) -> str:
    """The options that are not the default."""
    defaults = {parameter.name: parameter.default for parameter in explain_study.params}
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items() if value != defaults[name])
