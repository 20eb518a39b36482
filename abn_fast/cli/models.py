import click


@click.command()
@click.argument("pattern", default="*")
def models(pattern: str) -> None:
    """List the models whose names match PATTERN, with their parameters: abn-fast models "abn_*resnet*"."""
    import torch

    from abn_fast._errors import AbnFastError
    from abn_fast.models import create_model, list_models

    names = list_models(pattern)
    if not names:
        raise AbnFastError(f"no model matches {pattern!r}; try '*{pattern.strip('*')}*', or no pattern to see all")
    for name in names:
        with torch.device("meta"):
            model = create_model(name)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        click.echo(f"{name:28} {millions:7.2f} M parameters  {model.num_classes} classes by default")
