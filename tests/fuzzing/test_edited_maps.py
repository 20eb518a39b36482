import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abn_fast.data import read_edited_map
from tests.fuzzing._mutations import Fuzz, cases, damaged_bytes

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's and NumPy's, for some of them
MAP = np.linspace(0, 1, 12 * 14, dtype=np.float32).reshape(12, 14)


def picture(mode: str, suffix: str = "png") -> bytes:
    file = io.BytesIO()
    grey = Image.fromarray((MAP * 65535).astype(np.uint16) if mode == "I;16" else (MAP * 255).astype(np.uint8))
    (grey if mode == "I;16" else grey.convert(mode)).save(file, suffix)
    return file.getvalue()


def numpy_file(header: str | bytes, version: int = 1, body: bytes = MAP.tobytes()) -> bytes:
    """A file with this header, whatever it says."""
    text = header if isinstance(header, bytes) else header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + body


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
@cases(30, 1500)
def test_whatever_bytes_of_a_picture_are_damaged(mode: str, count: int, tmp_path: Path) -> None:
    path, whole, generator, fuzz = tmp_path / "map.png", picture(mode), random.Random(0), Fuzz()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        path.write_bytes(data)
        fuzz.read(read_edited_map, path, name=path, case=(case, data))
    assert fuzz.refused > count / 2


@cases(80, 3000)
def test_whatever_the_chunks_of_a_picture_say(count: int, tmp_path: Path) -> None:
    """Their checksums are right, so that the damage reaches the decoder."""
    path, generator, fuzz = tmp_path / "map.png", random.Random(1), Fuzz()
    for case in range(count):
        whole = picture(generator.choice(["L", "LA", "RGBA", "P", "1", "I;16"]))
        data, place = bytearray(whole[:8]), 8
        while place < len(whole):
            (length,) = struct.unpack(">I", whole[place : place + 4])
            kind, body = whole[place + 4 : place + 8], whole[place + 8 : place + 8 + length]
            if generator.random() < 0.4:
                body = damaged_bytes(body, generator)
            data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            place += 12 + length
        path.write_bytes(data)
        fuzz.read(read_edited_map, path, name=path, case=(case, bytes(data)))
    assert fuzz.refused > count / 4


@pytest.mark.parametrize("suffix", ["tiff", "bmp", "gif", "webp", "jpeg", "ppm"])
@cases(30, 1500)
def test_whatever_is_called_a_png(suffix: str, count: int, tmp_path: Path) -> None:
    path, whole, generator, fuzz = tmp_path / "map.png", picture("L", suffix), random.Random(2), Fuzz()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        path.write_bytes(data)
        fuzz.read(read_edited_map, path, name=path, case=(case, data))
    assert fuzz.refused > count / 10


@cases(150, 6000)
def test_whatever_bytes_of_an_array_are_damaged(count: int, tmp_path: Path) -> None:
    path, generator, fuzz = tmp_path / "map.npy", random.Random(3), Fuzz()
    np.save(path, MAP)
    whole = path.read_bytes()
    for case in range(count):
        data = damaged_bytes(whole, generator)
        path.write_bytes(data)
        fuzz.read(read_edited_map, path, name=path, case=(case, data))
    assert fuzz.refused > count / 2


HEADERS: list[str | bytes] = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 14)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 14)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296)}",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (12, 14)}",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (12, 14)}",
    "{'descr': '<f16', 'fortran_order': False, 'shape': (12, 14)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (12, 14)}",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (12, 7)}",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (12, 14)}",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (12, 14)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': ()}",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (12, 7)}",
    "{'descr': 'x\\ny', 'fortran_order': False, 'shape': (12, 14)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ", 1)}",
    "{'a\\nb': 1}",
    "(" * 500,
    "[" * 5000,
    "-" * 9000 + "1",
    "\x00",
    "__import__('os')",
    "",
    b"\xff\xfe",
    b"{'\xff': 1}",
]


@pytest.mark.parametrize("version", [0, 1, 2, 3, 255])
def test_headers_of_arrays_that_are_hard_to_parse(version: int, tmp_path: Path) -> None:
    path, fuzz = tmp_path / "map.npy", Fuzz()
    for header in HEADERS:
        path.write_bytes(numpy_file(header, version))
        fuzz.read(read_edited_map, path, name=path, case=header)
    assert fuzz.refused


def test_archives_and_pickles_are_no_arrays(tmp_path: Path) -> None:
    path, fuzz = tmp_path / "map.npy", Fuzz()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")
    whole = path.read_bytes()
    np.save(path, np.array([[{}]], dtype=object))
    for data in (whole, whole[:-10], whole[:20], b"PK\x03\x04", path.read_bytes(), b"\x80\x04K\x01."):
        path.write_bytes(data)
        fuzz.read(read_edited_map, path, name=path, case=data[:100])
    assert not fuzz.loaded
