"""The CEL engine without its command line.

The package imports its own interactive command, and with it two terminal toolkits, a fifth of a second of every start
of the control plane. So its extension module and its library of functions are loaded by themselves, under their own
names: who imports the whole package later gets the same ones.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType


@cache
def load_engine() -> ModuleType:
    """`compile`, `Context`: the extension module."""
    return _load("cel")


@cache
def load_library() -> ModuleType:
    """`STDLIB_FUNCTIONS`: the engine's own functions of strings, lists, sets and mathematics."""
    return _load("stdlib")


def _load(name: str) -> ModuleType:
    """The module `cel.<name>` without running the package's own `__init__`. Raises ImportError."""
    qualified = f"cel.{name}"
    if qualified in sys.modules:
        return sys.modules[qualified]
    package = find_spec("cel")
    spec = PathFinder.find_spec(qualified, package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        raise ImportError("the package common-expression-language is not installed, or has another shape")
    module = module_from_spec(spec)
    sys.modules[qualified] = module
    spec.loader.exec_module(module)
    return module
