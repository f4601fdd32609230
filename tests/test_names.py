"""No function hides a module: what a package has under the name of one of its modules is that
module."""

import importlib
import pkgutil

import pytest

import resnets

MODULES = [
    module.name
    for module in pkgutil.walk_packages(resnets.__path__, "resnets.")
    if not module.name.endswith(".__main__")  # importing it is running it
]
PACKAGES = sorted({name.rpartition(".")[0] for name in MODULES})


@pytest.mark.parametrize("name", MODULES)
def test_no_function_hides_a_module(name):
    module = importlib.import_module(name)
    package, _, own = name.rpartition(".")
    found = getattr(importlib.import_module(package), own, module)
    assert found is module, f"{name} is a {type(found).__name__} once {package} is imported"


@pytest.mark.parametrize("name", PACKAGES)
def test_what_a_package_offers_is_not_named_as_one_of_its_modules(name):
    """Which of the two is found would depend on what was imported last."""
    offered = getattr(importlib.import_module(name), "__all__", ())
    assert not {f"{name}.{one}" for one in offered} & set(MODULES)
