"""Training runs as data: a YAML file for each row of the paper's experiments."""

from abn_fast.recipes.recipe import Recipe, list_recipes, read_recipe, read_run

__all__ = ["Recipe", "list_recipes", "read_recipe", "read_run"]
