"""From tokens to text, piece by piece: nothing is shown that a later token could still change.

A character may span tokens, and a stop text may begin at the end of one token and go on in the next; both are held back
until they are decided.
"""

from __future__ import annotations

from collections.abc import Sequence

from kaito.runtime.serve.engines.base import Vocabulary

LONGEST = 8  # tokens of one character; what is no character after these never becomes one
BROKEN = "\ufffd"  # what a tokenizer shows for bytes that are no character yet


class TextStream:
    """The text of one answer. `push` gives what is new; `stopped` is True once a stop text has come."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        stop: Sequence[str] = (),
        *,
        keep_stop: bool = False,
        keep_special: bool = False,
    ) -> None:
        self._vocabulary = vocabulary
        self._skip_special = not keep_special
        self._stop = [one for one in stop if one]
        self._keep_stop = keep_stop
        self._ids: list[int] = []
        self._context = 0  # decoding starts here: some tokenizers need the token before, for its space
        self._read = 0  # tokens up to here have been decoded
        self._held = ""  # decoded, and perhaps the beginning of a stop text
        self.stopped = False

    def push(self, token: int) -> str:
        self._ids.append(token)
        before = self._decode(self._ids[self._context : self._read])
        now = self._decode(self._ids[self._context :])
        is_undecided = now.endswith(BROKEN) and len(self._ids) - self._read <= LONGEST
        if is_undecided or len(now) <= len(before):
            return ""
        self._context, self._read = self._read, len(self._ids)
        return self._past_stops(now[len(before) :])

    def finish(self) -> str:
        """What was held back, once no more tokens come."""
        if self.stopped:
            return ""
        before = self._decode(self._ids[self._context : self._read])
        now = self._decode(self._ids[self._context :])
        rest = self._past_stops(now[len(before) :])
        held, self._held = self._held, ""
        return rest if self.stopped else rest + held

    def _decode(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids, skip_special=self._skip_special)

    def _past_stops(self, new: str) -> str:
        text = self._held + new
        found = [(text.find(stop), stop) for stop in self._stop if stop in text]
        if found:
            place, stop = min(found)
            self.stopped, self._held = True, ""
            return text[: place + len(stop)] if self._keep_stop else text[:place]
        keep = max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
