from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abn_fast.cli._data import data_options, line_of, open_data, validation_option

if TYPE_CHECKING:
    from abn_fast.data import ImageDataset
    from abn_fast.recipes import Recipe
    from abn_fast.training import RunFolder, TrainingConfig

SETTINGS = {
    "epochs": "epochs",
    "batch_size": "batch_size",
    "optimizer": "optimizer.name",
    "learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "nesterov": "optimizer.nesterov",
    "weight_decay": "optimizer.weight_decay",
    "schedule": "schedule.name",
    "milestones": "schedule.milestones",
    "gamma": "schedule.gamma",
    "warmup_epochs": "schedule.warmup_epochs",
    "label_smoothing": "loss.label_smoothing",
    "map_loss_weight": "loss.map_weight",
    "precision": "precision",
    "compile": "compile",
    "seed": "seed",
}
"""Options of the command line that are settings of the training."""

COMPILE = ["auto", "off", "default", "reduce-overhead", "max-autotune"]


@click.command()
@click.option("--recipe", help="A name of `abn-fast recipes` or a YAML file; other options change it.")
@click.option("--set", "assignments", multiple=True, help="KEY=VALUE, any setting, for example clip_norm=1.")
@click.option("--model", help="A name of `abn-fast models`.  [default: abn_cifar_resnet20]")
@data_options
@click.option("--weights", type=click.Path(), help="Start from this checkpoint's model; its classes may differ.")
@click.option("--edited-maps", type=click.Path(), help="Fine-tune on a folder of edited attention maps too.")
@click.option("--map-loss-weight", type=float, help="Of the squared distance to an edited map.  [default: 1]")
@click.option("--pretrained", is_flag=True, help="Start from ImageNet weights of timm, the attention stage too.")
@click.option("--gate", type=click.Choice(["residual", "product"]), help="g * (1 + M), the default, or g * M.")
@click.option("--epochs", type=int, help="[default: 30]")
@click.option("--batch-size", type=int, help="Of all processes together.  [default: 128]")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), help="[default: sgd]")
@click.option("--learning-rate", "--lr", type=float, help="[default: 0.1]")
@click.option("--momentum", type=float, help="[default: 0.9]")
@click.option("--nesterov/--no-nesterov", default=None, help="[default: no-nesterov]")
@click.option("--weight-decay", type=float, help="[default: 0.0005]")
@click.option("--schedule", type=click.Choice(["cosine", "step", "constant"]), help="[default: cosine]")
@click.option("--milestones", help="Epochs at which --schedule step decays, for example 150,225.")
@click.option("--gamma", type=float, help="Factor of --schedule step.  [default: 0.1]")
@click.option("--warmup-epochs", type=float, help="[default: 0]")
@click.option("--label-smoothing", type=float, help="[default: 0]")
@validation_option
@click.option("--precision", type=click.Choice(["auto", "fp32", "tf32", "bf16", "fp16"]), help="[default: auto]")
@click.option("--compile", type=click.Choice(COMPILE), help="[default: auto]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
@click.option("--workers", type=int, help="Processes that load images; by default one a core, up to 8, for files.")
@click.option("--out", type=click.Path(), help="Folder of the run; by default runs/MODEL-DATA.")
@click.option(
    "--resume",
    type=click.Path(),
    help="Go on with the run in this folder, exactly; or auto: with the run in --out if there is one.",
)
@click.option("--log", type=click.Choice(["csv", "tensorboard"]), default="csv", show_default=True)
@click.pass_context
def train(
    context: click.Context, resume: str | None, device: str | None, workers: int | None, log: str, **options: Any
) -> None:
    """Train a model; the run's folder gets last.safetensors, metrics.csv, curve.png, summary.json and README.md.

    On many GPUs: torchrun --nproc-per-node=8 -m abn_fast train ...

    With --weights, --data FOLDER and --edited-maps MAPS, a checkpoint is taught where to look: the map of an image
    FOLDER/train/cat/7.jpg that has an edited one, MAPS/train/cat/7.png or .npy (see `abn-fast edit`), is drawn to it.
    Pictures are then preprocessed as the checkpoint says.
    """
    from abn_fast.training import RunFolder, choose_device
    from abn_fast.training.distributed import process_group

    if resume is not None and resume != "auto":
        _refuse_other_options(context, allowed={"resume", "device", "workers", "log"})
        settings, folder = None, RunFolder(Path(resume))
    else:
        settings = _recipe(context, options)
        name = f"runs/{_plain(settings.model['name'])}-{_plain(settings.data['data'])}"
        folder = RunFolder(Path(options["out"] or name))
    with process_group(choose_device(device)) as chosen:
        run_recipe(settings, options["weights"], folder, resume, chosen, workers, log)


def run_recipe(
    given: "Recipe | None",
    weights: str | None,
    folder: "RunFolder",
    resume: str | None,
    device: Any,
    workers: int | None,
    log: str = "csv",
) -> None:
    """Train what a recipe, or the run in a folder, says; `resume` as on the command line."""
    from abn_fast._errors import AbnFastError
    from abn_fast.data import InMemoryImages, SkipUnreadable
    from abn_fast.models import create_model
    from abn_fast.recipes import read_run
    from abn_fast.training import distributed
    from abn_fast.training import train as train_model
    from abn_fast.training._feed import workers_for
    from abn_fast.training.model_card import write_model_card

    first = distributed.rank() == 0
    goes_on = resume is not None and (resume != "auto" or folder.settings.exists())
    distributed.wait_for_all()
    recipe = read_run(folder) if goes_on else given
    assert recipe is not None
    if goes_on and given is not None:
        _check_same(recipe, given, folder, ignored=("model.",) if weights else ())
    saved = goes_on and folder.checkpoint.exists()
    if goes_on and given is None and not saved:
        raise AbnFastError(f"{folder.path} has no checkpoint yet: start it again by its own command with --resume auto")
    train_set, validation_set, test_set = _open_all(recipe.data, recipe.training)
    recipe.model["arguments"].setdefault("num_classes", len(train_set.classes))
    if saved:
        model = create_model(recipe.model["name"], **recipe.model["arguments"])
    else:
        model = _initial_model(weights, recipe)
    if "edited_maps" in recipe.data:
        train_set = _with_edited_maps(train_set, model, recipe.data)
    train_set = train_set if isinstance(train_set, InMemoryImages) else SkipUnreadable(train_set)
    metrics = _tensorboard(folder) if log == "tensorboard" and first else None
    if first and not goes_on:
        folder.create(recipe.to_dict())
    channels_last(model, device)
    summary = train_model(
        model,
        train_set,
        test_set,
        recipe.training,
        folder.path,
        validation_set=validation_set,
        resume=saved,
        workers=workers_for(train_set) if workers is None else workers,
        progress=True,
        log=click.echo,
        metrics=metrics,
    )
    if first:
        write_model_card(folder, recipe.to_dict(), summary)
        final = {name.removeprefix("test_"): value for name, value in summary.items() if name.startswith("test_")}
        click.echo(f"{summary['model']}: {line_of(final)} after {summary['seconds']:.0f} s; {folder.checkpoint}")


def channels_last(model: Any, device: Any) -> None:
    """Move a model to a device, its convolutions' weights in the layout that they compute fastest in."""
    import torch

    model.to(device).to(memory_format=torch.channels_last)


def _recipe(context: click.Context, options: dict[str, Any]) -> "Recipe":
    """The recipe, or the default one, with what the other options change."""
    from abn_fast.recipes import Recipe, read_recipe

    given = {
        name for name in context.params if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    data = {name: options[name] for name in ("data", "root", "download", "image_size", "validation")}
    changes = [f"{key}={_text(name, options[name])}" for name, key in SETTINGS.items() if options[name] is not None]
    if options["recipe"] is None:
        recipe = Recipe({"name": options["model"] or "abn_cifar_resnet20", "arguments": {}, "pretrained": False}, data)
        recipe = recipe.changed(changes)
    else:
        recipe = read_recipe(options["recipe"])
        recipe.data.update({name: data[name] for name in data if name in given or name not in recipe.data})
        changes += [f"model.name={options['model']}"] if options["model"] else []
        recipe = recipe.changed(changes)
    if options["edited_maps"] is not None:
        recipe.data["edited_maps"] = options["edited_maps"]
        recipe.data.update(_preprocessing_of(options["weights"]))
    if options["pretrained"]:
        recipe = recipe.changed(["model.pretrained=true"])
    if options["gate"]:
        recipe = recipe.changed([f"model.arguments.gate={options['gate']}"])
    return recipe.changed(options["assignments"])


def _preprocessing_of(weights: str | None) -> dict[str, Any]:
    """What a checkpoint says of its pictures, as a data setting."""
    from abn_fast.checkpoints import read_checkpoint

    seen = None if weights is None else read_checkpoint(weights).preprocessing
    return {} if seen is None else {"preprocessing": seen.to_dict()}


def _text(name: str, value: Any) -> str:
    if name == "milestones":
        return f"[{value}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _open_all(
    data: dict[str, Any], config: "TrainingConfig"
) -> "tuple[ImageDataset, ImageDataset | None, ImageDataset]":
    """Training, validation and test set."""
    from abn_fast.data import Preprocessing

    data = {name: value for name, value in data.items() if name != "edited_maps"}
    given = data.pop("preprocessing", None)
    seen = None if given is None else Preprocessing.from_dict(given)
    train_set = open_data(**data, split="train", augment=True, augmentation_seed=config.seed, preprocessing=seen)
    seen = train_set.preprocessing
    validation_set = None
    if data.get("validation") is not None:
        validation_set = open_data(**data, split="validation", preprocessing=seen)
    return train_set, validation_set, open_data(**data, split="test", preprocessing=seen)


def _with_edited_maps(train_set: "ImageDataset", model: Any, data: dict[str, Any]) -> "ImageDataset":
    """The training set with the edited maps that `data` names."""
    from abn_fast.data import EditedMaps, list_datasets
    from abn_fast.data._problems import few
    from abn_fast.explain.edit import check_editable, map_size
    from abn_fast.training import distributed

    check_editable(model)
    root = data["root"] if data["data"] in list_datasets() else data["data"]
    edited = EditedMaps(train_set, data["edited_maps"], root, map_size(model, train_set.preprocessing))
    if distributed.rank() == 0:
        left = f"; {few(edited.unused, 3)} belong to none" if edited.unused else ""
        click.echo(f"edited maps: {edited.edited} of {len(edited)} training images{left}")
    return edited


def _initial_model(weights: str | None, recipe: "Recipe") -> Any:
    import torch

    from abn_fast.checkpoints import load_checkpoint
    from abn_fast.models import create_model, load_pretrained

    torch.manual_seed(recipe.training.seed)
    name, arguments = recipe.model["name"], recipe.model["arguments"]
    if weights is None:
        if recipe.model["pretrained"] and ":" in name:
            return create_model(name, pretrained=True, **arguments)
        model = create_model(name, **arguments)
        if recipe.model["pretrained"]:
            load_pretrained(model)
        return model
    model = load_checkpoint(weights)
    if model.num_classes != arguments["num_classes"]:
        model.reset_classifier(arguments["num_classes"])
    assert model.config is not None
    recipe.model.update(name=model.config.name, arguments=model.config.arguments)
    return model


def _tensorboard(folder: "RunFolder") -> "Callable[[dict[str, float]], None]":
    from abn_fast._optional import require

    require("tensorboard", extra="tensorboard", purpose="--log tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = None

    def write(row: dict[str, float]) -> None:
        nonlocal writer
        writer = writer or SummaryWriter(str(folder.path / "tensorboard"))
        for name, value in row.items():
            writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return write


def _check_same(stored: "Recipe", given: "Recipe", folder: "RunFolder", ignored: tuple[str, ...]) -> None:
    """Refuse to go on with a run that was started with other settings."""
    from abn_fast._errors import AbnFastError
    from abn_fast.training.run import flat_settings

    old, new = flat_settings(stored.to_dict()), flat_settings(given.to_dict())
    ignored = ("departs", "about", "model.arguments.num_classes", *ignored)
    for key in sorted(set(old) | set(new)):
        if not key.startswith(ignored) and old.get(key) != new.get(key):
            raise AbnFastError(
                f"{folder.path} holds a run with {key}={old.get(key)!r}, not {new.get(key)!r}: give the same settings, "
                f"--resume {folder.path} alone, or another --out"
            )


def _plain(name: str) -> str:
    return Path(name).name.replace(":", "-")


def _refuse_other_options(context: click.Context, allowed: set[str]) -> None:
    given = [
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE and name not in allowed
    ]
    if given:
        raise click.UsageError(
            f"--resume goes on with the run's own settings: leave out --{', --'.join(given).replace('_', '-')}"
        )
