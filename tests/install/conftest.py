"""A cluster that keeps the record of what every account asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.accounts import Audit
from tests.support.cluster import Cluster
from tests.workspace.conftest import stage

__all__ = ["stage"]


@pytest.fixture
def audit() -> Audit:
    return Audit()


@pytest.fixture
def cluster(tmp_path: Path, audit: Audit) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "home", audit=audit)
    running.start()
    yield running
    running.stop()
