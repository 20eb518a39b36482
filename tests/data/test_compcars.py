import re
from pathlib import Path

import pytest

from abn_fast._errors import AbnFastError
from abn_fast.data import IMAGENET, CompCars, UnreadableImageError, create_dataset, dataset_info
from tests.data._files import CARS, replace_line, truncate, write_car_names, write_compcars

LISTS = Path("train_test_split") / "classification"


def test_models_are_numbered_in_the_order_of_the_archive(tmp_path: Path) -> None:
    training = create_dataset("compcars-models", "train", write_compcars(tmp_path))
    assert isinstance(training, CompCars)
    assert training.classes == ["3", "20", "1001"]
    assert training.labels.tolist() == [0, 0, 1, 2]
    assert training.paths == [tmp_path / "image" / name for name in CARS["train"]]
    test = create_dataset("compcars-models", "test", tmp_path)
    assert test.classes == training.classes
    assert test.labels.tolist() == [2, 1]
    image, label = test[1]
    assert image.shape == (3, 224, 224)
    assert label == 1
    assert test.preprocessing == IMAGENET == dataset_info("compcars-models").preprocessing
    assert test.task == dataset_info("compcars-models").task == "single-label"


def test_makes_are_classes_too(tmp_path: Path) -> None:
    training = create_dataset("compcars-makes", "train", write_compcars(tmp_path))
    assert training.classes == ["5", "78"]
    assert training.labels.tolist() == [1, 1, 0, 1]


def test_the_data_folder_of_the_archive_is_found(tmp_path: Path) -> None:
    write_compcars(tmp_path / "data")
    assert len(CompCars("test", tmp_path)) == 2


def test_names_come_from_the_archive(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    write_compcars(tmp_path)
    makes = [""] * 77 + ["Audi"]
    makes[4] = "Volvo"
    models = [""] * 1001
    models[2], models[1000] = "A4", "A4"  # models 3 and 1001: one name twice; model 20 has none
    write_car_names(tmp_path, makes, models)
    assert CompCars("train", tmp_path).classes == ["A4 3", "20", "A4 1001"]
    assert CompCars("test", tmp_path, target="make").classes == ["Volvo", "Audi"]


def test_names_are_numbers_without_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_compcars(tmp_path)
    (tmp_path / "misc").mkdir()
    (tmp_path / "misc" / "make_model_name.mat").write_bytes(b"")

    def missing(*arguments: str, **options: str) -> None:
        raise AbnFastError("not installed")

    monkeypatch.setattr("abn_fast.data.compcars.require", missing)
    assert CompCars("train", tmp_path).classes == ["3", "20", "1001"]


def test_a_broken_file_of_names_is_told(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    write_compcars(tmp_path)
    (tmp_path / "misc").mkdir()
    (tmp_path / "misc" / "make_model_name.mat").write_bytes(b"no such file" * 20)
    fails(tmp_path, "make_model_name.mat' cannot be read")


def fails(root: Path, *parts: str, split: str = "train") -> None:
    with pytest.raises(AbnFastError) as error:
        CompCars(split, root)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_root_or_list_is_named(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere' does not exist", "train_test_split")
    fails(tmp_path, f"{tmp_path / 'data' / 'image'}' does not exist")
    write_compcars(tmp_path)
    (tmp_path / LISTS / "test.txt").unlink()
    assert len(CompCars("train", tmp_path)) == 4
    fails(tmp_path, f"{tmp_path / LISTS / 'test.txt'}", split="test")


def test_a_list_that_names_a_missing_image_is_told_with_the_line(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    (tmp_path / "image" / CARS["train"][2]).unlink()
    fails(tmp_path, f"'{tmp_path / LISTS / 'train.txt'}', line 3", CARS["train"][2], "does not exist")


@pytest.mark.parametrize("line", ["78/3/2014", "78/three/2014/aa.jpg", "/78/3/2014/aa.jpg", "78\\3\\2014\\aa.jpg"])
def test_a_line_of_another_form_is_told(line: str, tmp_path: Path) -> None:
    write_compcars(tmp_path)
    replace_line(tmp_path / LISTS / "train.txt", 2, line)
    fails(tmp_path, "line 2", "MAKE/MODEL/YEAR/NAME.jpg")


def test_a_line_that_stands_twice_is_told(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    replace_line(tmp_path / LISTS / "train.txt", 4, CARS["train"][0])
    fails(tmp_path, "line 4", "stands in line 1 too")


def test_a_class_that_was_never_trained_is_told(tmp_path: Path) -> None:
    write_compcars(tmp_path, {**CARS, "test": [*CARS["test"], "5/21/2011/gg.jpg"]})
    fails(tmp_path, "test.txt', line 3", "model 21 has no image in the training list", split="test")
    assert len(CompCars("test", tmp_path, target="make")) == 3
    problems: list[str] = []
    assert CompCars("test", tmp_path, report=problems.append).labels.tolist() == [2, 1]
    assert len(problems) == 1


def test_a_list_that_is_no_text_is_told(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    (tmp_path / LISTS / "train.txt").write_bytes(b"\xff\xd8\xff\xe0")
    fails(tmp_path, "train.txt' cannot be read")


def test_an_empty_list_is_told(tmp_path: Path) -> None:
    write_compcars(tmp_path, {**CARS, "train": []})
    fails(tmp_path, "train.txt' names no image")


def test_all_problems_can_be_collected(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    (tmp_path / "image" / CARS["train"][0]).unlink()
    replace_line(tmp_path / LISTS / "train.txt", 3, "nonsense")
    problems: list[str] = []
    dataset = CompCars("train", tmp_path, report=problems.append)
    assert [re.findall(r"line \d", problem) for problem in problems] == [["line 1"], ["line 3"]]
    assert dataset.classes == ["3", "1001"]
    assert dataset.labels.tolist() == [0, 1]


def test_a_truncated_image_is_named_in_the_error(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    truncate(tmp_path / "image" / CARS["train"][1])
    with pytest.raises(UnreadableImageError, match=CARS["train"][1]):
        CompCars("train", tmp_path)[1]
