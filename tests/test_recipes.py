"""The paper's experiments as data."""

from pathlib import Path

import pytest
import torch

from abn_fast import AbnFastError, create_model
from abn_fast.data import dataset_info
from abn_fast.recipes import Recipe, list_recipes, read_recipe
from abn_fast.training import OptimizerConfig, ScheduleConfig
from abn_fast.training._paper import beyond_the_paper

# the table of the authors' recipes: epochs, batch, milestones, gamma, weight decay
AUTHORS = {
    "resnet110": (300, 128, (150, 225), 0.1, 1e-4),
    "wide_resnet28_10": (200, 128, (60, 120, 160), 0.2, 5e-4),
    "densenet_bc100_12": (300, 64, (150, 225), 0.1, 1e-4),
    "resnext29_8x64d": (300, 128, (150, 225), 0.1, 5e-4),
}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_names_a_model_and_a_data_set_that_fit(name: str) -> None:
    recipe = read_recipe(name)
    info = dataset_info(recipe.data["data"])
    with torch.device("meta"):
        model = create_model(recipe.model["name"], **recipe.model["arguments"], num_classes=info.num_classes or 3)
    assert (info.task == "multi-label") == recipe.model["name"].startswith("multi_task_")
    assert model.config is not None
    assert recipe.about
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "svhn"])
@pytest.mark.parametrize("backbone", AUTHORS)
def test_recipes_of_small_images_are_the_authors(data: str, backbone: str) -> None:
    training = read_recipe(f"{data}-{backbone}").training
    epochs, batch_size, milestones, gamma, weight_decay = AUTHORS[backbone]
    assert (training.epochs, training.batch_size) == (epochs, batch_size)
    assert training.schedule == ScheduleConfig("step", milestones, gamma)
    assert training.optimizer == OptimizerConfig("sgd", 0.1, 0.9, False, weight_decay)


def test_imagenet_decays_at_31_and_61() -> None:
    training = read_recipe("imagenet-resnet50").training
    assert (training.epochs, training.batch_size, training.schedule.milestones) == (90, 256, (31, 61))


OTHERS = {
    "cifar100-resnet110-164": (164, 128, (81, 122), 0.1, 1e-4),
    "imagenet-resnet101": (90, 256, (31, 61), 0.1, 1e-4),
    "imagenet-resnet152": (90, 256, (31, 61), 0.1, 1e-4),
    "imagenet-se_resnet152": (90, 256, (31, 61), 0.1, 1e-4),
    "compcars-model-vgg16": (50, 64, (25, 35), 0.01, 1e-4),
    "compcars-model-resnet101": (50, 64, (25, 35), 0.01, 1e-4),
    "compcars-maker-vgg16": (50, 64, (25, 35), 0.01, 1e-4),
    "compcars-maker-resnet101": (50, 64, (25, 35), 0.01, 1e-4),
    "celeba-resnet101": (10, 32, (4, 8), 0.01, 1e-4),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_rows_of_the_papers_table_have_a_recipe(name: str) -> None:
    recipe = read_recipe(name)
    training = recipe.training
    epochs, batch_size, milestones, lr, weight_decay = OTHERS[name]
    assert (training.epochs, training.batch_size) == (epochs, batch_size)
    assert training.schedule == ScheduleConfig("step", milestones, 0.1)
    assert training.optimizer == OptimizerConfig("sgd", lr, 0.9, False, weight_decay)
    assert recipe.model["pretrained"] == (lr == 0.01)


@pytest.mark.parametrize("name", list_recipes())
def test_what_the_paper_does_not_do_is_in_no_recipe_of_it(name: str) -> None:
    recipe = read_recipe(name)
    if name == "digits-in-the-wild":
        assert beyond_the_paper(recipe.training) == [
            "optimizer.nesterov=True",
            "schedule.name=cosine",
            "schedule.warmup_epochs=0.3",
        ]
    else:
        assert beyond_the_paper(recipe.training) == []


def test_settings_are_changed_by_their_path_and_named() -> None:
    recipe = read_recipe("cifar100-resnet110")
    changes = [
        "optimizer.lr=5e-2",
        "training.epochs=3",
        "model.arguments.gate=product",
        "data.root=/data",
        "clip_norm=1",
    ]
    changed = recipe.changed(changes)
    assert changed.training.optimizer.lr == 0.05
    assert changed.training.epochs == 3
    assert changed.training.clip_norm == 1
    assert changed.training.optimizer.weight_decay == recipe.training.optimizer.weight_decay
    assert changed.model["arguments"] == {"gate": "product"}
    assert changed.data["root"] == "/data"
    assert changed.departs == tuple(changes)
    assert recipe.model["arguments"] == {}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lr=0.1", "there is no setting lr"),
        ("optimizer.learning_rate=0.1", "there is no setting optimizer.learning_rate"),
        ("optimizer.lr.x=0.1", "there is no setting optimizer.lr.x"),
        ("optimizer.lr", "expected KEY=VALUE"),
        ("optimizer.lr=[", "is not a value"),
        ("optimizer.lr=fast", "expected a number"),
        ("epochs=0", "epochs=0; expected a whole number"),
    ],
)
def test_a_wrong_change_is_one_clear_line(assignment: str, message: str) -> None:
    with pytest.raises(AbnFastError, match=message.replace("[", r"\[")) as error:
        read_recipe("digits-in-the-wild").changed([assignment])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {name: abn_resnet18}", "data=None"),
        ("data: {data: cifar10}", "model=None"),
        ("model: {name: a}\ndata: {data: b}\nepochs: 3", "unknown key 'epochs'"),
        ("model: {name: a, width: 2}\ndata: {data: b}", "expected a table of name, arguments"),
        ("model: {name: a}\ndata: {data: b}\ntraining: {lr: 1}", "unknown setting lr"),
        ("model: {name: a, arguments: 3}\ndata: {data: b}", "model.arguments=3; expected a table"),
        ("model: {name: a, pretrained: maybe}\ndata: {data: b}", "model.pretrained='maybe'; expected true or false"),
        ("model: {name: a}\ndata: {data: cifar10, split: test}", "unknown key data.split; expected one of data, root"),
        ("model: {name: a}\ndata: {data: cifar10, size: 3}", "unknown key data.size"),
        ("model: {name: a}\ndata: {data: b}\ndeparts: all", "departs='all'; expected a list"),
        ("- 1", "expected a table"),
        ("a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
    ids=str,
)
def test_a_damaged_file_is_named_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(AbnFastError, match=message) as error:
        read_recipe(str(path))
    assert "own.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_shows_near_ones() -> None:
    with pytest.raises(AbnFastError, match=r"did you mean.*cifar100-resnet110"):
        read_recipe("cifar100-resnet11")
