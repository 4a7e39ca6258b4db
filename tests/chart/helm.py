"""Helm, from the extra `helm` (240 MB): `make test-chart` installs it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

CHART = Path(__file__).parents[2] / "charts" / "kaito"


def helm_python() -> Any:
    """The SDK. Without it the test skips, or fails when KAITO_REQUIRE_HELM=1."""
    try:
        return importlib.import_module("helm_python")
    except ImportError as error:
        message = f"Helm's SDK is not installed ({error}): make test-chart"
    if os.environ.get("KAITO_REQUIRE_HELM") == "1":
        pytest.fail(message)
    pytest.skip(message)
