"""From logits to the next token, each sequence by its own settings.

Greedy sequences without penalties share one argmax; the others are taken one by one, each with its own generator, so
that a seed gives the same answer whoever else is in the batch. The order of the steps (penalties, temperature, top-k,
top-p, min-p) is transformers'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from kaito.runtime.serve.engines.base import Sampling


@dataclass
class Sampler:
    """The state of one sequence's choices: its generator, and what it has seen for the penalties."""

    sampling: Sampling
    prompt: tuple[int, ...]
    ends: frozenset[int]
    produced: Counter[int] = field(default_factory=Counter)
    count: int = 0
    _generator: torch.Generator | None = None

    @property
    def is_plain(self) -> bool:
        """The argmax of the logits as they are."""
        s = self.sampling
        neutral = s.repetition_penalty == 1.0 and s.presence_penalty == 0.0 and s.frequency_penalty == 0.0
        return s.is_greedy and neutral and not s.logit_bias and s.logprobs is None and not self._forbids_end

    @property
    def _forbids_end(self) -> bool:
        return self.sampling.ignore_eos or self.count < self.sampling.min_tokens

    def choose(self, logits: torch.Tensor) -> int:
        """The next token from `logits` [vocabulary], float32, which this may change."""
        s = self.sampling
        self._penalize(logits)
        for token, bias in s.logit_bias.items():
            logits[token] += bias
        if self._forbids_end and self.ends:
            logits[list(self.ends)] = float("-inf")
        if s.is_greedy:
            return int(logits.argmax())
        weights = _filtered(logits / s.temperature, s).softmax(-1)
        return int(torch.multinomial(weights, 1, generator=self._own_generator(logits.device)))

    def note(self, token: int) -> None:
        self.produced[token] += 1
        self.count += 1

    def _penalize(self, logits: torch.Tensor) -> None:
        s = self.sampling
        if s.repetition_penalty != 1.0:
            seen = torch.tensor(sorted({*self.prompt, *self.produced}), device=logits.device)
            scores = logits[seen]
            logits[seen] = torch.where(scores < 0, scores * s.repetition_penalty, scores / s.repetition_penalty)
        if self.produced and (s.presence_penalty or s.frequency_penalty):
            tokens = torch.tensor(list(self.produced), device=logits.device)
            counts = torch.tensor(list(self.produced.values()), device=logits.device, dtype=logits.dtype)
            logits[tokens] -= s.presence_penalty + s.frequency_penalty * counts

    def _own_generator(self, device: torch.device) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(device=device)
            if self.sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(self.sampling.seed)
        return self._generator


def _filtered(logits: torch.Tensor, s: Sampling) -> torch.Tensor:
    """`logits` with -inf where top-k, top-p or min-p leave the token out; the best token always stays."""
    if 0 < s.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(s.top_k).values[-1], float("-inf"))
    if s.top_p < 1.0:
        ordered, places = logits.sort(descending=True)
        weights = ordered.softmax(-1)
        out = weights.cumsum(-1) - weights >= s.top_p
        out[0] = False
        logits = logits.masked_fill(torch.zeros_like(out).scatter(0, places, out), float("-inf"))
    if s.min_p > 0.0:
        weights = logits.softmax(-1)
        logits = logits.masked_fill(weights < s.min_p * weights.max(), float("-inf"))
    return logits


@dataclass(frozen=True)
class Choice:
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def choose_all(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[Choice]:
    """One choice per row of `logits` [sequences, vocabulary]; log probabilities are those of the model as it is."""
    best = logits.argmax(-1).tolist()
    choices = []
    for row, sampler in enumerate(samplers):
        if sampler.is_plain:
            choices.append(Choice(best[row]))
            continue
        scores = logits[row].float()
        wanted = sampler.sampling.logprobs
        logprobs = scores.log_softmax(-1) if wanted is not None else None
        token = sampler.choose(scores.clone())
        choices.append(_reported(token, logprobs, wanted))
    return choices


def _reported(token: int, logprobs: torch.Tensor | None, wanted: int | None) -> Choice:
    if logprobs is None or wanted is None:
        return Choice(token)
    values, places = logprobs.topk(min(wanted, logprobs.shape[-1]))
    top = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Choice(token, float(logprobs[token]), top)
