"""The small parts of tuning: order by length, what fits, energy, questions, rows of a batch, frozen layers, the bar."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.tune.tokens import IGNORED, Tokenized, Tokens

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
NO = IGNORED


@given(st.lists(st.integers(1, 500), max_size=300), st.integers(1, 8), st.integers(0, 3))
def test_sorting_by_length_keeps_all_rows_and_is_the_same_each_time(lengths: list[int], batch: int, epoch: int) -> None:
    from kaito.runtime.tune.order import LengthSorted

    one, other = LengthSorted(lengths, batch, 7), LengthSorted(lengths, batch, 7)
    for sampler in (one, other):
        sampler.set_epoch(epoch)
    assert list(one) == list(other)
    assert sorted(one) == list(range(len(lengths)))


def test_batches_hold_rows_of_like_length() -> None:
    from kaito.runtime.tune.order import LengthSorted

    lengths = [(number * 37) % 400 + 1 for number in range(400)]
    sampler = LengthSorted(lengths, 4, 1)
    order = list(sampler)
    padded = sum(4 * max(lengths[at] for at in order[begin : begin + 4]) for begin in range(0, 400, 4))
    assert padded < 1.1 * sum(lengths), "a tenth of padding at most, where a random order has about a half"
    assert lengths[order[0]] == max(lengths)
    sampler.set_epoch(1)
    assert list(sampler) != order


PHI3 = SimpleNamespace(hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, vocab_size=32064)
GIB = 2**30


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (70 * GIB, (4, 1, False)),  # an A100 with a quantized base
        (12 * GIB, (4, 1, True)),
        (2 * GIB, (2, 2, True)),
        (GIB // 4, (1, 4, True)),
    ],
)
def test_what_fits_decides_on_recomputing_first_and_then_on_the_batch(
    free: int, expected: tuple[int, int, bool]
) -> None:
    from kaito.runtime.tune.memory import plan_memory

    planned = plan_memory(PHI3, [1024] * 10, 4, free)
    assert (planned.batch, planned.accumulate, planned.checkpointing) == expected


def test_a_model_that_says_nothing_of_itself_is_recomputed() -> None:
    from kaito.runtime.tune.memory import plan_memory

    assert plan_memory(SimpleNamespace(), [1], 4, GIB).checkpointing is True


@given(st.integers(0, 1 << 38), st.integers(0, 1 << 38), st.integers(1, 64))
def test_more_memory_never_means_smaller_batches(one: int, other: int, batch: int) -> None:
    from kaito.runtime.tune.memory import plan_memory

    less, more = (plan_memory(PHI3, [900, 100, 1024] * 30, batch, free) for free in sorted((one, other)))
    assert less.batch <= more.batch
    assert less.checkpointing or not more.checkpointing
    assert less.batch * less.accumulate <= batch < 2 * less.batch * less.accumulate


def test_energy_of_the_processors_is_counted(tmp_path: Path) -> None:
    from kaito.runtime.tune.energy import EnergyMeter

    def set_to(*microjoules: int) -> None:
        for number, value in enumerate(microjoules):
            package = tmp_path / f"intel-rapl:{number}"
            package.mkdir(exist_ok=True)
            (package / "energy_uj").write_text(str(value))
            (tmp_path / f"intel-rapl:{number}:0").mkdir(exist_ok=True)  # a part of it, not to be counted twice

    set_to(1_000_000, 5_000_000)
    meter = EnergyMeter(0, tmp_path)
    set_to(3_000_000, 6_500_000)
    assert (meter.joules(), meter.what) == (3.5, "processor")
    set_to(0, 0)
    assert meter.joules() is None, "a counter that wrapped says nothing"
    assert EnergyMeter(0, tmp_path / "absent").joules() is None


@pytest.mark.parametrize(
    ("ids", "labels", "question", "answer"),
    [
        ([1, 2, 3, 4], [NO, NO, 3, 4], [1, 2], [3, 4]),
        ([1, 2, 3, 4, 5, 6], [NO, 2, NO, NO, 5, 6], [1, 2, 3, 4], [5, 6]),  # the last answer of a chat
        ([1, 2, 3, 4], [NO, 2, 3, NO], [1], [2, 3]),  # a template that goes on after the answer
    ],
)
def test_the_last_learnt_part_is_the_answer(
    ids: list[int], labels: list[int], question: list[int], answer: list[int]
) -> None:
    from kaito.runtime.tune.quality import questions_of

    (found,) = questions_of([Tokens(ids, labels)], None)
    assert (found.ids, found.answer) == (question, answer)


def test_plain_text_and_rows_that_were_cut_are_no_questions() -> None:
    from kaito.runtime.tune.quality import questions_of

    text, cut = Tokens([1, 2], [1, 2]), Tokens([1, 2, 3, 4], [NO, NO, 3, 4])
    assert questions_of([text, cut], 4) == []
    assert len(questions_of([text, cut], 5)) == 1


def test_a_batch_is_traced_to_its_rows_however_it_was_made() -> None:
    import torch

    from kaito.runtime.tune.faults import rows_of_batch

    rows = Tokenized([Tokens([1, 2, 3], [1, 2, 3]), Tokens([4, 5], [4, 5]), Tokens([6], [6])], ["a:1", "a:2", "b:1"])

    def named(**inputs: Any) -> list[str]:
        return rows_of_batch({name: torch.tensor(value) for name, value in inputs.items()}, rows.rows, rows.names)

    assert named(input_ids=[[4, 5, 0], [1, 2, 3]], attention_mask=[[1, 1, 0], [1, 1, 1]]) == ["a:2", "a:1"]
    assert named(input_ids=[[1, 2, 3, 6]], position_ids=[[0, 1, 2, 0]]) == ["a:1", "b:1"]
    assert named(input_ids=[[4, 5]]) == ["a:2"]
    assert named(input_ids=[[9, 9]], position_ids=[[0, 1]]) == []


@pytest.mark.parametrize("processor", [True, False], ids=["with bfloat16", "without"])
def test_a_cpu_takes_bfloat16_only_where_it_is_asked_and_able(processor: bool) -> None:
    import torch

    from kaito.runtime.tune import device

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_cpu_flags", lambda: {"avx512_bf16"} if processor else {"avx2"})
        assert device.find_device("auto")[0].dtype is torch.float32
        found, warning = device.find_device("bfloat16")
        assert (found.dtype is torch.bfloat16, bool(warning)) == (processor, not processor)
        assert device.find_device("float16")[0].dtype is torch.float32


@pytest.mark.parametrize("bias", [True, False])
def test_frozen_layers_compute_what_torch_computes(bias: bool) -> None:
    import torch

    from kaito.runtime.tune.frozen import FrozenLinear

    torch.manual_seed(0)
    plain = torch.nn.Linear(24, 40, bias=bias).requires_grad_(requires_grad=False)
    frozen = torch.nn.Linear(24, 40, bias=bias).requires_grad_(requires_grad=False)
    frozen.load_state_dict(plain.state_dict())
    frozen.__class__ = FrozenLinear
    rows = torch.randn(2, 7, 24)
    results = []
    for layer in (plain, frozen):
        given = rows.clone().requires_grad_()
        made = layer(given)
        (made**2).sum().backward()
        results.append((made.detach(), given.grad))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert frozen(rows[:, :0]).shape == (2, 0, 40)
    frozen.weight.requires_grad_()
    frozen(rows).sum().backward()
    assert frozen.weight.grad is not None, "a layer that is trained after all learns"


def test_a_bar_for_terminals() -> None:
    from kaito.runtime.tune.observe import bar

    fields = {"trainStep": 5, "totalSteps": 10, "loss": 1.25, "tokensPerSecond": 812.4, "etaSeconds": 65.2}
    assert bar(fields, 10) == "[#####.....] 5/10  loss 1.2500  812 tokens/s  1:05 left"
    assert bar({}, 4).startswith("[....] 0/1")
