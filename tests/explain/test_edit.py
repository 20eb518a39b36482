"""Predictions with a map that a person has edited."""

from pathlib import Path

import pytest
import torch

from abn_fast import AbnFastError, create_model
from abn_fast.data import EditedMap, Preprocessing, read_edited_map
from abn_fast.data.edited_map import on_map
from abn_fast.explain.edit import check_editable, map_size, predict_edited, write_map
from abn_fast.modules import ImageNetwork
from tests.export._networks import small

SEEN = Preprocessing((20, 26), (0.5,) * 3, (0.25,) * 3)


def model_and_images(kind: str) -> tuple[ImageNetwork, torch.Tensor]:
    return small(kind)[0], torch.randn(1, 3, *SEEN.image_size, generator=torch.Generator().manual_seed(0))


def known(values: torch.Tensor) -> EditedMap:
    return EditedMap(values, torch.ones_like(values))


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "abn-product"])
def test_the_prediction_is_that_of_the_model_given_the_map(kind: str) -> None:
    model, images = model_and_images(kind)
    edited = torch.rand(map_size(model, SEEN))
    result = predict_edited(model, images[0], known(edited))
    with torch.no_grad():
        own, given = model(images[:1]), model(images[:1], attention=edited[None, None])
    torch.testing.assert_close(result.before, own.logits[0].softmax(0))
    torch.testing.assert_close(result.after, given.logits[0].softmax(0))
    torch.testing.assert_close(result.attention, own.attention[0])
    torch.testing.assert_close(result.edited[0], edited)
    assert not torch.allclose(result.before, result.after, atol=1e-3)


def test_where_the_edited_map_is_unknown_the_networks_own_stands() -> None:
    model, images = model_and_images("abn-cifar_resnet8")
    size = map_size(model, SEEN)
    values, share = torch.rand(size), (torch.rand(size) > 0.5).float()
    result = predict_edited(model, images[0], EditedMap(values, share))
    expected = torch.where(share == 1, values, result.attention[0])
    torch.testing.assert_close(result.edited[0], expected)
    unchanged = predict_edited(model, images[0], EditedMap(values, torch.zeros(size)))
    torch.testing.assert_close(unchanged.after, unchanged.before)


def test_one_task_is_edited_and_the_others_keep_their_maps() -> None:
    model, images = model_and_images("tasks-cifar_resnet")
    edited = torch.rand(map_size(model, SEEN))
    result = predict_edited(model, images[0], known(edited), task=1)
    assert result.before.shape == (3, 2)
    torch.testing.assert_close(result.edited[1], edited)
    torch.testing.assert_close(result.edited[[0, 2]], result.attention[[0, 2]])
    torch.testing.assert_close(result.after[[0, 2]], result.before[[0, 2]])
    assert not torch.allclose(result.after[1], result.before[1], atol=1e-4)


@pytest.mark.parametrize("size", [(20, 26), (450, 1000)])
def test_an_unedited_picture_of_the_map_gives_the_same_prediction(size: tuple[int, int], tmp_path: Path) -> None:
    model, images = model_and_images("abn-cifar_resnet8")
    result = predict_edited(model, images[0], None)
    box = SEEN.crop_box(size[1], size[0])
    write_map(result.attention[0], size, box, tmp_path / "map.png")
    edited = read_edited_map(tmp_path / "map.png")
    assert edited.size == size
    again = predict_edited(model, images[0], on_map(edited, size, map_size(model, SEEN), box, "map.png"))
    torch.testing.assert_close(again.after, result.before, atol=5e-3, rtol=0)
    torch.testing.assert_close(again.edited, result.attention, atol=0.02, rtol=0)


def test_models_without_one_map_in_0_to_1_are_refused() -> None:
    plain, bounded = create_model("cifar_resnet8", num_classes=3), small("abn-cifar_resnet8")[0]
    check_editable(bounded)
    with pytest.raises(AbnFastError, match="plain classifier without attention map"):
        check_editable(plain)
    with pytest.raises(AbnFastError, match="no upper bound"):
        map_size(create_model("abn_se_resnet", num_classes=3, block="basic", layers=[1, 1, 1, 1], width=16), SEEN)
    with pytest.raises(AbnFastError, match="a map for each task"):
        check_editable(small("tasks-cifar_resnet")[0])


def test_a_map_of_another_size_and_an_unknown_task_are_refused() -> None:
    model, images = model_and_images("abn-cifar_resnet8")
    with pytest.raises(AbnFastError, match="the edited map is 3x3"):
        predict_edited(model, images[0], known(torch.rand(3, 3)))
    with pytest.raises(AbnFastError, match="task 1; expected 0 to 0"):
        predict_edited(model, images[0], None, task=1)


def test_maps_are_written_as_png_alone(tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=r"written as a grey picture NAME\.png"):
        write_map(torch.rand(2, 2), (4, 4), (0.0, 0.0, 4.0, 4.0), tmp_path / "map.jpg")
