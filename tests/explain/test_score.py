import pytest
import torch

from abn_fast import AbnFastError, create_model
from abn_fast.data import InMemoryImages
from abn_fast.explain import energy_in_box, explain, inverted, pointing_game
from abn_fast.explain.metrics import confidence_change, deletion, insertion, iou
from abn_fast.explain.score import COLUMNS, FAITHFULNESS_METRICS, METRICS, classifier_of, score_methods
from abn_fast.modules import ImageNetwork
from tests.training._data import stripes


def network(name: str = "abn_cifar_resnet8", num_classes: int = 3) -> ImageNetwork:
    torch.manual_seed(0)
    return create_model(name, num_classes=num_classes, width=4).eval()


def data(count: int = 7) -> InMemoryImages:
    return stripes(count, augment=False)


def test_rows_are_the_metrics_themselves_whatever_the_batch() -> None:
    model, dataset = network(), data()
    rows = {row.name: row.scores for row in score_methods(model, dataset, ["gradcam", "abn"], batch_size=3)}
    assert list(rows) == ["gradcam", "abn", "random", "centre", "inverted gradcam"]
    images, boxes = dataset.batch(range(7))[0], dataset.boxes
    assert boxes is not None
    classify = classifier_of(model)
    targets = classify(images).argmax(1)
    for method in ("abn", "gradcam"):
        maps = explain(model, images, targets, method=method)
        change = confidence_change(classify, images, maps, targets)
        expected = {
            "pointing_game": pointing_game(maps, boxes).float(),
            "energy": energy_in_box(maps, boxes),
            "energy_above_half": energy_in_box((maps - 0.5).clamp(min=0), boxes),
            "iou": iou(maps, boxes),
            "deletion": deletion(classify, images, maps, targets),
            "insertion": insertion(classify, images, maps, targets),
            "average_drop": change.drop,
            "increase": change.increase.float(),
        }
        for name, values in expected.items():
            assert rows[method][name] == pytest.approx(100 * float(values.mean()), abs=1e-3), name
        assert set(rows[method]) == set(COLUMNS)
    upside_down = inverted(explain(model, images, targets, method="gradcam"))
    assert rows["inverted gradcam"]["energy"] == pytest.approx(100 * float(energy_in_box(upside_down, boxes).mean()))
    assert "milliseconds" not in rows["random"]


def test_images_without_box_count_for_faithfulness_alone() -> None:
    dataset = data(6)
    whole = score_methods(network(), dataset.select(range(3)), ["abn"], metrics=["energy"])
    assert dataset.boxes is not None
    dataset.boxes = dataset.boxes.clone()
    dataset.boxes[3:] = torch.nan
    part = score_methods(network(), dataset, ["abn"], metrics=["energy"], batch_size=3)
    assert part[0].scores["energy"] == pytest.approx(whole[0].scores["energy"], abs=1e-6)


def test_without_boxes_there_is_no_location_and_asking_for_it_is_one_line() -> None:
    dataset = data(4)
    dataset.boxes = None
    [row, *_] = score_methods(network(), dataset, ["abn"])
    assert set(row.scores) == {"deletion", "insertion", "road", "average_drop", "increase", "milliseconds"}
    with pytest.raises(AbnFastError, match=r"metric 'energy' needs boxes and this data has none") as error:
        score_methods(network(), dataset, ["abn"], metrics=["road", "energy"])
    assert "\n" not in str(error.value)
    assert set(FAITHFULNESS_METRICS) < set(METRICS)


def test_one_task_of_a_multi_task_network_is_scored() -> None:
    model = network("multi_task_abn_cifar_resnet8")
    dataset = data(4)
    [row, *_] = score_methods(model, dataset, ["abn"], metrics=["energy"], task=1)
    maps = explain(model, dataset.batch(range(4))[0])[:, 1]
    assert dataset.boxes is not None
    assert row.scores["energy"] == pytest.approx(100 * float(energy_in_box(maps, dataset.boxes).mean()), abs=1e-3)
    with pytest.raises(AbnFastError, match="a multi-task network has a map for each task"):
        score_methods(model, dataset, ["abn"])
    with pytest.raises(AbnFastError, match="task 0: this network chooses one class"):
        score_methods(network(), dataset, ["abn"], task=0)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["abm"], "method='abm'; expected one of 'abn'"),
        ([], "no method"),
        (["cam", "cam"], "one is named twice"),
    ],
)
def test_wrong_methods_are_refused(methods: list[str], message: str) -> None:
    with pytest.raises(AbnFastError, match=message):
        score_methods(network(), data(2), methods)


def test_a_plain_network_has_no_attention_map() -> None:
    with pytest.raises(
        AbnFastError, match=r"method 'abn' cannot explain this Classifier: cam, gradcam, gradcam\+\+ can"
    ):
        score_methods(network("cifar_resnet8"), data(2), ["abn"])
