from pathlib import Path

import pytest
import torch
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.data import CelebA, DigitsInTheWild, ImageFolder, Preprocessing
from abn_fast.data.boxes import object_boxes, read_annotation
from tests.data._files import write_celeba, write_lines, write_picture

SEEN = Preprocessing((20, 20), (0.5,) * 3, (0.5,) * 3)


def annotation(*objects: tuple[str, int, int, int, int]) -> str:
    parts = "".join(
        f"<object><name>{name}</name><pose>Left</pose><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>"
        f"<ymax>2</ymax></bndbox></part></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation><filename>other.jpg</filename><size><width>40</width></size>{parts}</annotation>"


def folder_of(tmp_path: Path, **annotations: str) -> ImageFolder:
    for name in ("a", "b", "c"):
        write_picture(tmp_path / "cat" / f"{name}.png", (40, 20))
        if name in annotations:
            (tmp_path / "cat" / f"{name}.xml").write_text(annotations[name])
    write_picture(tmp_path / "dog" / "d.png", (40, 20))
    return ImageFolder("test", tmp_path, preprocessing=SEEN)


def test_boxes_beside_images_are_those_of_their_class_on_what_the_network_sees(tmp_path: Path) -> None:
    dataset = folder_of(
        tmp_path,
        a=annotation(("dog", 1, 1, 40, 20), ("cat", 13, 3, 14, 5), ("cat", 15, 6, 24, 15)),
        b=annotation(("bird", 1, 1, 2, 2), ("bird", 5, 2, 20, 20)),
    )
    boxes = object_boxes(dataset)
    assert boxes is not None
    # the network sees columns 10 to 29 of the 40
    assert boxes[0].tolist() == [4, 5, 14, 15]
    assert boxes[1].tolist() == [0, 1, 10, 20]
    assert boxes[2:].isnan().all()


def test_a_box_covers_the_pixels_that_the_annotation_counts_from_1(tmp_path: Path) -> None:
    path = tmp_path / "one.xml"
    path.write_text(annotation(("cat", 1, 1, 1, 1)))
    assert read_annotation(path) == [("cat", (0, 0, 1, 1))]


def test_what_the_crop_leaves_nothing_of_is_unknown(tmp_path: Path) -> None:
    assert object_boxes(folder_of(tmp_path, a=annotation(("cat", 1, 1, 8, 20)))) is None


def test_images_without_annotations_have_no_boxes(tmp_path: Path) -> None:
    assert object_boxes(folder_of(tmp_path)) is None


def test_known_boxes_stay_as_they_are() -> None:
    digits = DigitsInTheWild("test", 5)
    assert object_boxes(digits) is digits.boxes


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a document type"),
        (BOMB.encode("utf-16").decode("latin-1"), "declares a document type"),
        ("<annotation><object>", "no well-formed XML"),
        ("no XML at all", "no well-formed XML"),
        ("<annotation><object><name>cat</name></object></annotation>", "lacks a number xmin"),
        (annotation(("cat", 9, 1, 2, 5)), "has no pixel"),
        (annotation(("cat", 1, 1, 2, 5)).replace("<ymax>5", "<ymax>nan"), "has no pixel"),
        (" " * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_damaged_and_hostile_annotations_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    dataset = folder_of(tmp_path)
    (tmp_path / "cat" / "b.xml").write_bytes(text.encode("latin-1"))
    with pytest.raises(AbnFastError, match=message) as error:
        object_boxes(dataset)
    assert "b.xml" in str(error.value)
    assert "\n" not in str(error.value)


def test_faces_are_the_landmarks_rectangle_grown_by_half(tmp_path: Path) -> None:
    write_celeba(tmp_path, parts=(2, 2))
    for path in (tmp_path / "img_align_celeba").iterdir():
        Image.new("RGB", (40, 60)).save(path)
    names = " ".join(f"{part}_{axis}" for part in ("le", "re", "n", "lm", "rm") for axis in "xy")
    rows = ["000001.jpg 14 24 25 24 20 28 16 33 24 33", "000002.jpg 0 0 39 0 20 20 5 59 30 59"]
    write_lines(tmp_path / "list_landmarks_align_celeba.txt", ["2", names, *rows])
    whole = Preprocessing((60, 40), (0.5,) * 3, (0.5,) * 3)
    boxes = object_boxes(CelebA("test", tmp_path, preprocessing=whole))
    assert boxes is not None
    # columns 14 to 25 are 12 wide, rows 24 to 33 are 10 high
    torch.testing.assert_close(boxes, torch.tensor([[8.0, 19, 32, 39], [0, 0, 40, 60]]))


def test_celeba_without_landmarks_has_no_boxes(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    assert object_boxes(CelebA("test", tmp_path)) is None
