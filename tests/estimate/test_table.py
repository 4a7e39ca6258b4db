"""The table in the documentation is what the code says, and its comparison with KAITO is KAITO's formula."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from kaito.catalog.models import Figures

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "estimate.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_estimate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_code_makes(script: ModuleType) -> None:
    assert script.TABLE.read_text() == script.render(), "run python benchmarks/estimate.py --write"


def test_it_is_as_wide_as_it_claims(script: ModuleType) -> None:
    assert len(script.catalogue()) >= 60
    assert len({name for name, _ in script.TYPES}) == 12


@pytest.mark.parametrize(
    ("weights_gib", "gpus", "gib", "context", "nodes"),
    [
        pytest.param(554.32, 2, 24, 262144, 32, id="Kimi-K2.5 on pairs of A10 at its full context"),
        pytest.param(554.32, 1, 24, 262144, 844, id="Kimi-K2.5 on single A10s"),
    ],
)
def test_kaitos_formula_gives_kaitos_numbers(
    script: ModuleType, weights_gib: float, gpus: int, gib: int, context: int, nodes: int
) -> None:
    kimi = Figures(
        weights_bytes=int(weights_gib * 2**30), layers=61, heads=64, kv_heads=64, kv_lora_rank=512, qk_rope_head_dim=64
    )
    assert script.kaito_nodes(kimi, gpus, gib, context) == nodes
