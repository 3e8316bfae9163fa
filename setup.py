"""Ship recipes/ inside the package as audiogen_cli.recipes; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["audiogen_cli*"]), "audiogen_cli.recipes"],
    package_dir={"audiogen_cli.recipes": "recipes"},
)
