"""What pyproject.toml cannot say: a wheel has ``config/`` as ``legos/shipped/``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["legos*", "process*"]), "legos.shipped"],
    package_dir={"legos.shipped": "config"},
)
