import json
import random
from pathlib import Path

import pytest
import yaml

from abn_fast.recipes import list_recipes, read_recipe
from abn_fast.recipes.recipe import FOLDER, read_run
from abn_fast.training.run import RunFolder
from tests.fuzzing._mutations import JUNK, Fuzz, cases, damaged_bytes, damaged_text, damaged_value

TOKENS = [
    "\n", "\t", " ", ":", ": ", "- ", "{", "}", "[", "]", "'", '"', "#", "|", ">", "*a", "&a ", "&a [*a, *a]", "? ",
    "<<: 1", "<<: [{a: 1}]", "!!int x", "!!float x", "!!timestamp x", "!!binary é", "!!set {a}", "!!omap [a: 1]",
    "!!python/object:os.system x", "!!null", "2001-99-99", "2001-01-01", "0x", "0x" + "f" * 4000, "1:99:99", "0b2",
    "1.2.3e4", ".inf", ".nan", "1e400", "9" * 4400, "%YAML 9\n", "---\n", "...\n", "\x00", "\x85", "\u2028", "é", "yes",
    "true", "null", "~", "=", "  x: 1\n", "training:\n", "model: {name: abn_resnet18}\n", "[" * 999, "{a: " * 999,
]  # fmt: skip


@cases(120, 6000)
def test_whatever_is_written_into_a_recipe(count: int, tmp_path: Path) -> None:
    path, generator, fuzz = tmp_path / "recipe.yaml", random.Random(0), Fuzz()
    texts = [(FOLDER / f"{name}.yaml").read_text(encoding="utf-8") for name in list_recipes()]
    for case in range(count):
        text = damaged_text(generator.choice(texts), TOKENS, generator)
        path.write_text(text, encoding="utf-8")
        fuzz.read(read_recipe, str(path), name=path, case=(case, text))
    assert fuzz.refused > count / 4
    assert fuzz.loaded > count / 20  # changed comments and texts


@cases(60, 4000)
def test_whatever_a_recipe_says(count: int, tmp_path: Path) -> None:
    path, generator, fuzz = tmp_path / "recipe.yaml", random.Random(1), Fuzz()
    recipes = [read_recipe(name).to_dict() for name in list_recipes()]
    for case in range(count):
        values = damaged_value(generator.choice(recipes), generator)
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        fuzz.read(read_recipe, str(path), name=path, case=(case, values))
    assert fuzz.refused > count / 4


@cases(60, 4000)
def test_whatever_bytes_of_a_recipe_are_damaged(count: int, tmp_path: Path) -> None:
    path, generator, fuzz = tmp_path / "recipe.yaml", random.Random(2), Fuzz()
    whole = (FOLDER / "celeba-resnet101.yaml").read_bytes()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        path.write_bytes(data)
        fuzz.read(read_recipe, str(path), name=path, case=(case, data[:300]))
    assert fuzz.refused


def test_aliases_that_unfold_to_more_than_any_memory(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path, fuzz = tmp_path / "recipe.yaml", Fuzz()
    for place in ("model", "data", "training", "about", "departs", "x"):
        text = "\n".join(levels) + f"\n{place}: *a11\n"
        path.write_text(text)
        fuzz.read(read_recipe, str(path), name=path, case=place)
        nested = "\n".join("  " + line for line in levels)
        recipe = f"model:\n  name: abn_resnet18\n  arguments:\n  {nested}\ndata: {{data: cifar10, root: *a11}}\n"
        path.write_text(recipe)
        fuzz.read(read_recipe, str(path), name=path, case=place)
    assert fuzz.refused


@cases(100, 5000)
def test_whatever_is_set_on_the_command_line(count: int) -> None:
    recipe, generator, fuzz = read_recipe("digits-in-the-wild"), random.Random(3), Fuzz()
    keys = ["optimizer.lr", "schedule.milestones", "model.name", "model.arguments.width", "data.root", "epochs"]
    keys += ["training", "model", "data", "", ".", "..", "model.arguments", "x.y", "optimizer", "about", "loss.a\nb"]
    for case in range(count):
        value = generator.choice([json.dumps(generator.choice(JUNK)), *generator.sample(TOKENS, 6)])
        text = damaged_text(f"{generator.choice(keys)}={value}", TOKENS, generator)
        fuzz.read(recipe.changed, [text], case=(case, text))
    assert fuzz.refused > count / 4
    assert fuzz.loaded


@cases(100, 5000)
def test_whatever_a_run_says(count: int, tmp_path: Path) -> None:
    folder, generator, fuzz = RunFolder(tmp_path), random.Random(4), Fuzz()
    whole = read_recipe("digits-in-the-wild").to_dict()
    for case in range(count):
        if case % 2:
            said = json.dumps(damaged_value(whole, generator)).encode()
        else:
            said = damaged_bytes(json.dumps(whole, indent=2).encode(), generator)
        folder.settings.write_bytes(said)
        fuzz.read(read_run, folder, name=folder.settings, case=(case, said))
    assert fuzz.refused > count / 4


@pytest.mark.parametrize("text", ["", "null", "[]", "[" * 100_000, "9" * 5000, "\ufeff{}", '{"model": NaN}'])
def test_runs_that_are_hard_to_parse(text: str, tmp_path: Path) -> None:
    folder, fuzz = RunFolder(tmp_path), Fuzz()
    folder.settings.write_text(text)
    fuzz.read(read_run, folder, name=folder.settings, case=text)
    assert fuzz.refused
