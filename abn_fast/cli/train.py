from pathlib import Path
from typing import Any

import click

from abn_fast.cli._data import data_options, line_of, open_data


@click.command()
@click.option("--model", default="abn_cifar_resnet20", show_default=True, help="A name of `abn-fast models`.")
@data_options
@click.option("--weights", type=click.Path(), help="Start from this checkpoint's model; its classes may differ.")
@click.option("--gate", type=click.Choice(["residual", "product"]), help="g * (1 + M), the default, or g * M.")
@click.option("--epochs", type=int, default=30, show_default=True)
@click.option("--batch-size", type=int, default=128, show_default=True)
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), default="sgd", show_default=True)
@click.option("--learning-rate", "--lr", type=float, default=0.1, show_default=True)
@click.option("--momentum", type=float, default=0.9, show_default=True)
@click.option("--nesterov", is_flag=True)
@click.option("--weight-decay", type=float, default=5e-4, show_default=True)
@click.option("--schedule", type=click.Choice(["cosine", "step", "constant"]), default="cosine", show_default=True)
@click.option("--milestones", default="", help="Epochs at which --schedule step decays, for example 150,225.")
@click.option("--gamma", type=float, default=0.1, show_default=True, help="Factor of --schedule step.")
@click.option("--warmup-epochs", type=float, default=0.0, show_default=True)
@click.option("--label-smoothing", type=float, default=0.0, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
@click.option("--workers", type=int, default=0, show_default=True, help="Processes that load images.")
@click.option("--out", type=click.Path(), help="Folder of the run; by default runs/MODEL-DATA.")
@click.option("--resume", type=click.Path(), help="Go on with the run in this folder, exactly; takes no other option.")
@click.pass_context
def train(context: click.Context, resume: str | None, device: str | None, workers: int, **options: Any) -> None:
    """Train a model; the run's folder gets last.safetensors, metrics.csv, curve.png and summary.json."""
    from abn_fast.models import create_model
    from abn_fast.training import RunFolder, TrainingConfig, choose_device
    from abn_fast.training import train as train_model

    if resume is not None:
        _refuse_other_options(context, allowed={"resume", "device", "workers"})
        folder = RunFolder(Path(resume))
        settings = folder.read_settings()
    else:
        settings = _settings(options)
        folder = RunFolder(
            Path(options["out"] or f"runs/{_plain(settings['model']['name'])}-{_plain(options['data'])}")
        )
    config = TrainingConfig.from_dict(settings["training"])
    chosen = choose_device(device)
    train_set = open_data(**settings["data"], split="train", augment=True, augmentation_seed=config.seed)
    test_set = open_data(**settings["data"], split="test", preprocessing=train_set.preprocessing)
    settings["model"]["arguments"].setdefault("num_classes", len(train_set.classes))
    if resume is None:
        model = _initial_model(options["weights"], settings, config.seed)
        folder.create(settings)
    else:
        model = create_model(settings["model"]["name"], **settings["model"]["arguments"])
    channels_last(model, chosen)
    summary = train_model(
        model,
        train_set,
        test_set,
        config,
        folder.path,
        resume=resume is not None and folder.checkpoint.exists(),
        workers=workers,
        progress=True,
        log=click.echo,
    )
    final = {name.removeprefix("test_"): value for name, value in summary.items() if name.startswith("test_")}
    click.echo(f"{summary['model']}: {line_of(final)} after {summary['seconds']:.0f} s; {folder.checkpoint}")


def channels_last(model: Any, device: Any) -> None:
    """Move a model to a device, its convolutions' weights in the layout that they compute fastest in."""
    import torch

    model.to(device).to(memory_format=torch.channels_last)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import fields

    from abn_fast.training import TrainingConfig

    names = {field.name for field in fields(TrainingConfig)}
    training = {name: value for name, value in options.items() if name in names}
    training["milestones"] = _milestones(options["milestones"])
    return {
        "model": {"name": options["model"], "arguments": {"gate": options["gate"]} if options["gate"] else {}},
        "data": {name: options[name] for name in ("data", "root", "download", "image_size")},
        "training": TrainingConfig(**training).to_dict(),
    }


def _initial_model(weights: str | None, settings: dict[str, Any], seed: int) -> Any:
    import torch

    from abn_fast.checkpoints import load_checkpoint
    from abn_fast.models import create_model

    torch.manual_seed(seed)
    if weights is None:
        return create_model(settings["model"]["name"], **settings["model"]["arguments"])
    model = load_checkpoint(weights)
    classes = settings["model"]["arguments"]["num_classes"]
    if model.num_classes != classes:
        model.reset_classifier(classes)
    assert model.config is not None
    settings["model"] = {"name": model.config.name, "arguments": model.config.arguments}
    return model


def _milestones(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected epochs such as 150,225", param_hint="--milestones") from None


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
