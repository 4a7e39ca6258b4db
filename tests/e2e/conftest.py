"""A machine per module, stopped whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine") / "home")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def samples() -> Path:
    return Path(__file__).parents[2] / "src/kaito/local/samples"
