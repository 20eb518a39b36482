import click


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes of the paper's experiments, or print one: abn-fast recipes cifar100-resnet110."""
    import yaml

    from abn_fast.recipes import list_recipes, read_recipe

    if name is not None:
        click.echo(yaml.safe_dump(read_recipe(name).to_dict(), sort_keys=False, allow_unicode=True), nl=False)
        return
    for each in list_recipes():
        recipe = read_recipe(each)
        click.echo(f"{each:30} {recipe.about}")
