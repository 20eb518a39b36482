"""How the package is installed and imported."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from abn_fast import __version__

ROOT = Path(__file__).parents[1]
ORDER = [
    "kernels",
    "modules",
    "models",
    ("checkpoints", "data", "training", "explain", "export", "proofs"),
    ("recipes", "demo", "benchmark_report"),
    "cli",
]


def python(code: str, *, cwd: Path = ROOT, path: Path | None = None) -> str:
    arguments = [sys.executable, "-c", code]
    environment = None if path is None else {"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_needs_no_optional_package_and_is_light() -> None:
    code = """
import sys
OPTIONAL = "triton onnx onnxscript onnxruntime timm tensorrt tensorrt_rtx sklearn pytorch_grad_cam".split()
sys.modules.update(dict.fromkeys(OPTIONAL))  # importing one raises ModuleNotFoundError
import torch, time
started = time.perf_counter()
import abn_fast
seconds = time.perf_counter() - started
assert seconds < 0.5, seconds
assert "abn_fast.kernels" not in sys.modules
started = time.perf_counter()
model = abn_fast.create_model("abn_cifar_resnet8")
assert "torchvision" not in sys.modules
model(torch.zeros(2, 3, 16, 16))
abn_fast.load_checkpoint, abn_fast.abn_loss, abn_fast.from_published
"""
    python(code)


def test_a_missing_package_names_its_extra() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
import abn_fast
from abn_fast.data import DigitsInTheWild
try:
    DigitsInTheWild("train", 4)
except abn_fast.AbnFastError as error:
    print(error)
"""
    assert "pip install 'abn-fast[data]'" in python(code)


def test_every_public_name_is_there() -> None:
    import abn_fast

    for name in abn_fast.__all__:
        assert getattr(abn_fast, name) is not None
        assert name in dir(abn_fast)
    with pytest.raises(AttributeError, match="nothing"):
        _ = abn_fast.nothing


def imported_layers(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    nodes = ast.walk(ast.parse(file.read_text()))
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    parts = [module.split(".") for module in modules]
    named = {part[1] for part in parts if part[0] == "abn_fast" and len(part) > 1}
    nodes = ast.walk(ast.parse(file.read_text()))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "abn_fast":
            named |= {alias.name for alias in node.names}
    return named


def test_imports_go_one_way() -> None:
    level = {
        name: index for index, names in enumerate(ORDER) for name in ([names] if isinstance(names, str) else names)
    }
    for layer, own in level.items():
        folder = ROOT / (layer if layer in ("kernels", "export") else f"abn_fast/{layer}")
        files = list(folder.rglob("*.py"))
        assert files, folder
        for file in files:
            above = {name for name in imported_layers(file) if level.get(name, -1) > own}
            assert not above, f"{file} imports {above}"


def test_triton_kernels_and_the_reference_do_not_import_each_other() -> None:
    for file in (ROOT / "kernels").rglob("*.py"):
        text = file.read_text()
        if "import triton" in text:
            assert "kernels.reference" not in text, file
    assert "triton" not in (ROOT / "kernels" / "reference.py").read_text()


def files_of(root: Path) -> set[str]:
    """What a checkout installs."""
    return {
        f"{folder}/{file.relative_to(root / folder).as_posix()}"
        for folder in ("abn_fast", "kernels", "export")
        for pattern in ("*.py", "tuning.json", "*.yaml", "*.html", "py.typed")
        for file in (root / folder).rglob(pattern)
    }


@pytest.mark.slow
def test_the_sdist_and_its_wheel_hold_every_module_once_and_install_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"  # without what an earlier build left behind
    for folder in ("abn_fast", "kernels", "export"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    files = files_of(source)
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(source)]  # the wheel from the sdist
    subprocess.run(command, check=True, capture_output=True)
    [sdist], [wheel] = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    stem = f"abn_fast-{__version__}"
    assert (sdist.name, wheel.name.partition("-py3")[0]) == (f"{stem}.tar.gz", stem)
    with tarfile.open(sdist) as archive:
        packed = [entry.name.partition("/")[2] for entry in archive if entry.isfile()]
    own = {"setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO"}
    assert sorted(name for name in packed if ".egg-info/" not in name) == sorted(files | own)
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(f"abn_fast/{name.removeprefix('abn_fast/')}" for name in files)
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--target",
        str(installed),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    elsewhere.mkdir()
    code = """
import abn_fast.kernels, abn_fast.export, abn_fast, importlib.metadata
assert abn_fast.__version__ == importlib.metadata.version("abn_fast")
abn_fast.create_model("abn_cifar_resnet8")
print(abn_fast.kernels.__file__)
"""
    assert python(code, cwd=elsewhere, path=installed).startswith(str(installed))
    assert (installed / "bin" / "abn-fast").is_file()


def test_the_version_stands_in_one_place() -> None:
    said = re.compile(rf"\b{re.escape(__version__)}\b")
    files = [ROOT / name for name in ("pyproject.toml", "setup.py", "README.md", "CITATION.cff", "mkdocs.yml")]
    files += [ROOT / name for name in files_of(ROOT)]
    assert [file for file in files if said.search(file.read_text())] == [ROOT / "abn_fast" / "_version.py"]


def test_the_citation_names_the_library_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert citation["cff-version"] == "1.2.0"
    assert f'license = "{citation["license"]}"' in project
    assert citation["authors"] == [{"name": "abn_fast contributors"}]
    [paper] = citation["references"]
    assert paper["title"].startswith("Attention Branch Network")
    assert [author["family-names"] for author in paper["authors"]] == ["Fukui", "Hirakawa", "Yamashita", "Fujiyoshi"]


def test_a_plain_checkout_works_without_installation(tmp_path: Path) -> None:
    code = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path.insert(0, {str(ROOT)!r})
import abn_fast.kernels, abn_fast.export
print(abn_fast.kernels.__file__, abn_fast.export.__file__)
"""
    assert python(code, cwd=tmp_path).split() == [
        str(ROOT / "abn_fast" / "kernels" / "__init__.py"),
        str(ROOT / "abn_fast" / "export" / "__init__.py"),
    ]
