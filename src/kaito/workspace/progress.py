"""What the steps in the pods say of their work, fetched through the API server's pod proxy, beside the workers.

A step answers `GET /progress` while it runs. The poller asks each unready pod at most once per interval and wakes the
Workspace when the answer changed; the planners then find it in the picture, like anything else that was observed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The answer of a step: the fields of the pod contract. Numbers that are not known are None."""

    step: str = ""
    state: str = ""
    message: str = ""
    reason: str = ""
    hint: str = ""
    trainStep: int | None = None
    totalSteps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    evalLoss: float | None = None
    tokensPerSecond: float | None = None
    etaSeconds: float | None = None
    startedAt: str | None = None


class ProgressBook:
    """The last answer of each pod, by Workspace and pod."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, Progress]] = {}

    def of(self, key: str) -> Mapping[str, Progress]:
        return dict(self._pages.get(key, ()))

    def write(self, key: str, uid: str, progress: Progress) -> bool:
        """True when this is news."""
        page = self._pages.setdefault(key, {})
        if page.get(uid) == progress:
            return False
        page[uid] = progress
        return True

    def keep(self, key: str, uids: Iterable[str]) -> None:
        """Forget the pods of the Workspace that are no more."""
        alive = set(uids)
        page = {uid: progress for uid, progress in self._pages.get(key, {}).items() if uid in alive}
        if page:
            self._pages[key] = page
        else:
            self._pages.pop(key, None)

    def known(self) -> list[str]:
        return list(self._pages)
