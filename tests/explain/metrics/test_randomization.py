import torch
from torch import Tensor, nn

from abn_fast import create_model
from abn_fast.explain import explain
from abn_fast.explain.metrics import cascading_randomization


def attention(model: nn.Module, images: Tensor) -> Tensor:
    return explain(model, images)


def test_layers_are_initialised_again_from_the_top_down_and_the_model_stays() -> None:
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=3, width=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, state = torch.rand(3, 3, 16, 16), torch.get_rng_state()
    rows = cascading_randomization(model, attention, images)
    assert torch.equal(state, torch.get_rng_state())
    assert [row.layer for row in rows] == [
        "perception_branch.classifier",
        "perception_branch.stage",
        "attention_branch.head",
        "attention_branch.stage",
        "extractor.layer2",
        "extractor.layer1",
        "extractor.bn1",
        "extractor.conv1",
    ]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_map_changes_with_the_layers_that_it_depends_on_and_not_before() -> None:
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=3, width=4).eval()
    rows = dict(cascading_randomization(model, attention, torch.rand(3, 3, 16, 16)))
    for layer in ("perception_branch.classifier", "perception_branch.stage"):
        torch.testing.assert_close(rows[layer], torch.ones(3))
    assert all(float(rows[layer].mean()) < 0.95 for layer in ("attention_branch.head", "extractor.conv1"))


def test_a_map_that_ignores_the_network_is_found_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    rows = cascading_randomization(model, lambda network, images: images.mean(1), torch.rand(2, 3, 8, 8))
    assert [row.layer for row in rows] == ["2", "0"]
    assert all(torch.allclose(row.similarity, torch.ones(2)) for row in rows)


def test_layers_without_an_initialisation_of_their_own_change_too() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.linspace(1, 2, 64).view(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    def maps(network: nn.Module, images: Tensor) -> Tensor:
        found: Tensor = network(images)
        return found

    [row] = cascading_randomization(nn.Sequential(Scale()), maps, torch.ones(1, 8, 8))
    assert float(row.similarity) < 0.8
