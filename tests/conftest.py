"""Fixtures that every room may use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# A busy machine is no defect: examples are not timed.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
# pytest-asyncio asks for the thread's event loop after a test without one, and would make and never close another.
asyncio.set_event_loop(None)

if TYPE_CHECKING:
    from tests.support.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A fresh embedded control plane: the API server alone, no controllers."""
    from tests.support.cluster import Cluster

    running = Cluster(tmp_path / "home")
    running.start()
    yield running
    running.stop()
