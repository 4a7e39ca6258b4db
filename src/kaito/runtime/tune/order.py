"""Rows of like length together: less padding where batches are padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

GROUP = 50  # batches that are sorted together: the order between them stays random


class LengthSorted(Sampler[int]):
    """A seeded order that is new in each epoch and the same after a restart, which transformers' own is not.

    Batches are shuffled after sorting; the longest comes first, so that a lack of memory shows at once.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        size = self._batch * GROUP
        batches: list[list[int]] = []
        for begin in range(0, len(shuffled), size):
            group = sorted(shuffled[begin : begin + size], key=lambda index: -self._lengths[index])
            batches += [group[at : at + self._batch] for at in range(0, len(group), self._batch)]
        whole = [one for one in batches if len(one) == self._batch]
        rest = [one for one in batches if len(one) < self._batch]
        order = torch.randperm(len(whole), generator=generator).tolist()
        longest = max(range(len(whole)), key=lambda at: self._lengths[whole[at][0]], default=0)
        order.sort(key=lambda at: at != longest)
        for batch in (*(whole[at] for at in order), *rest):
            yield from batch
