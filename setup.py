"""Put kernels/ and export/ into the abn_fast namespace.

No top-level module named `kernels` or `export` is installed: other packages own those names.
"""

from setuptools import find_packages, setup

FOLDERS = {"abn_fast": "abn_fast", "abn_fast.kernels": "kernels", "abn_fast.export": "export"}

packages = [
    package
    for name, folder in FOLDERS.items()
    for package in [name, *(f"{name}.{child}" for child in find_packages(folder))]
]

setup(packages=sorted(set(packages)), package_dir=FOLDERS)
