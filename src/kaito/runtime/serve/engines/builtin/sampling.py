"""From logits to the next token, each sequence by its own settings.

Greedy sequences that change nothing share one argmax. For the others the order of the steps (penalties, temperature,
top-k, top-p, min-p) is transformers'; what every row needs is done for all rows at once. Each sequence draws a number
from its own generator and looks it up in its own row: a seed gives the same answer whoever else is in the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from kaito.runtime.serve.engines.base import Guide, Sampling

# Tokens that top-p looks at first. Their sum nearly always reaches p, and a whole vocabulary is slow to sort.
LIKELY = 1024
NEVER = float("-inf")


@dataclass
class Sampler:
    """The state of one sequence's choices: its generator, and what it has seen for the penalties."""

    sampling: Sampling
    prompt: tuple[int, ...]
    ends: frozenset[int]
    produced: Counter[int] = field(default_factory=Counter)
    count: int = 0
    guide: Guide | None = None
    _generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.sampling.guide is not None:
            self.guide = self.sampling.guide.copy()
        s = self.sampling
        neutral = s.repetition_penalty == 1.0 and s.presence_penalty == 0.0 and s.frequency_penalty == 0.0
        self._changes_nothing = (
            s.is_greedy and neutral and not s.logit_bias and s.logprobs is None and self.guide is None
        )

    @property
    def is_plain(self) -> bool:
        """The argmax of the logits as they are."""
        return self._changes_nothing and not self._forbids_end

    @property
    def is_done(self) -> bool:
        """The form that was asked for is complete."""
        return self.guide is not None and self.guide.is_done

    @property
    def _forbids_end(self) -> bool:
        return self.guide is None and (self.sampling.ignore_eos or self.count < self.sampling.min_tokens)

    def adjust(self, logits: torch.Tensor) -> None:
        """Change `logits` [vocabulary], float32, in place: penalties, biases, and what may not come at all."""
        self._penalize(logits)
        for token, bias in self.sampling.logit_bias.items():
            logits[token] += bias
        if self._forbids_end and self.ends:
            logits[list(self.ends)] = NEVER
        if self.guide is not None:
            logits.masked_fill_(~_unpacked(self.guide.allowed(), logits), NEVER)

    def note(self, token: int) -> None:
        self.produced[token] += 1
        self.count += 1
        if self.guide is not None:
            self.guide.consume(token)

    def draw(self) -> float:
        """The next number of this sequence, 0 <= number < 1."""
        if self._generator is None:
            self._generator = torch.Generator()
            if self.sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(self.sampling.seed)
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))

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


@dataclass(frozen=True)
class Choice:
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def choose_all(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[Choice]:
    """One choice per row of `logits` [sequences, vocabulary]; log probabilities are those of the model as it is."""
    rows = [row for row, sampler in enumerate(samplers) if not sampler.is_plain]
    logits = logits.float()  # a CPU finds the largest of bfloat16 ten times slower
    choices = [Choice(token) for token in logits.argmax(-1).tolist()]
    if not rows:
        return choices
    scores = logits[rows]
    chosen = [samplers[row] for row in rows]
    # Before anything is changed; only for those that asked.
    logprobs = {
        place: scores[place].log_softmax(-1)
        for place, sampler in enumerate(chosen)
        if sampler.sampling.logprobs is not None
    }
    for place, sampler in enumerate(chosen):
        sampler.adjust(scores[place])
    for place, (row, token) in enumerate(zip(rows, _tokens(scores, chosen), strict=True)):
        choices[row] = _reported(token, logprobs.get(place), chosen[place].sampling.logprobs)
    return choices


def _tokens(scores: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """The token of each row: the best of a greedy one, else drawn."""
    tokens: list[int] = scores.argmax(-1).tolist()
    drawing = [place for place, sampler in enumerate(samplers) if not sampler.sampling.is_greedy]
    if not drawing:
        return tokens
    settings = [samplers[place].sampling for place in drawing]
    temperatures = torch.tensor([s.temperature for s in settings], device=scores.device)
    weights = filtered(scores[drawing] / temperatures[:, None], settings).softmax(-1)
    sums = weights.cumsum(-1, dtype=torch.float64)
    numbers = torch.tensor([samplers[place].draw() for place in drawing], dtype=torch.float64, device=scores.device)
    found = torch.searchsorted(sums, (numbers * sums[:, -1])[:, None], right=True)[:, 0].tolist()
    for place, token in zip(drawing, found, strict=True):
        if token < scores.shape[-1]:  # beyond the last one only by rounding: then the best one stays
            tokens[place] = token
    return tokens


def filtered(logits: torch.Tensor, settings: Sequence[Sampling]) -> torch.Tensor:
    """`logits` [rows, vocabulary] with -inf where top-k, top-p or min-p leave a token out; the best always stays."""
    size = logits.shape[-1]
    counts = [s.top_k if 0 < s.top_k < size else 0 for s in settings]
    if any(counts):
        best = logits.topk(max(counts)).values
        last = torch.tensor([max(count - 1, 0) for count in counts], device=logits.device)
        least = best.gather(1, last[:, None])
        is_off = torch.tensor([not count for count in counts], device=logits.device)
        logits = logits.masked_fill((logits < least) & ~is_off[:, None], NEVER)
    for row, s in enumerate(settings):
        if s.top_p < 1.0:
            logits[row] = _nucleus(logits[row], s.top_p)
    if any(s.min_p > 0.0 for s in settings):
        weights = logits.softmax(-1)
        parts = torch.tensor([s.min_p for s in settings], device=logits.device)
        logits = logits.masked_fill(weights < parts[:, None] * weights.max(-1, keepdim=True).values, NEVER)
    return logits


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """One row with the fewest best tokens whose weights reach `top_p`."""
    total = logits.logsumexp(-1)
    for count in (min(LIKELY, logits.shape[-1]), logits.shape[-1]):
        ordered, places = logits.topk(count)
        weights = (ordered - total).exp()
        before = weights.cumsum(-1) - weights
        if before[-1] >= top_p or count == logits.shape[-1]:
            break
    stays = before < top_p
    stays[0] = True
    return torch.full_like(logits, NEVER).scatter(0, places[stays], ordered[stays])


def _unpacked(bits: bytes, logits: torch.Tensor) -> torch.Tensor:
    """One bool for each logit; tokens that the guide does not know are not allowed."""
    known = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[: logits.shape[-1]]
    allowed = torch.zeros(logits.shape[-1], dtype=torch.bool)
    allowed[: len(known)] = torch.from_numpy(known.astype(np.bool_))
    return allowed.to(logits.device)


def _reported(token: int, logprobs: torch.Tensor | None, wanted: int | None) -> Choice:
    if logprobs is None or wanted is None:
        return Choice(token)
    values, places = logprobs.topk(min(wanted, logprobs.shape[-1]))
    top = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Choice(token, float(logprobs[token]), top)
