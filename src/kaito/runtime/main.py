"""`kaito-runtime STEP`: the one command of the one image.

Each step's module is imported only when it is asked for: fetching data must not load torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# Step -> (module, function). Each function takes no arguments and returns the exit code.
STEPS = {
    "data": ("kaito.runtime.data.main", "run"),
    "model": ("kaito.runtime.model.main", "run"),
    "adapter": ("kaito.runtime.adapter", "run"),
    "tune": ("kaito.runtime.tune.main", "run"),
    "publish": ("kaito.runtime.publish.main", "run"),
    "serve": ("kaito.runtime.serve.main", "run"),
}
USAGE = f"usage: kaito-runtime {{{','.join(STEPS)}}}\n\nA step takes everything from its environment (KAITO_...).\n"


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    if given == ["--version"]:
        from kaito import __version__

        print(__version__)
        return 0
    if len(given) != 1 or given[0] not in STEPS:
        print(USAGE, end="", file=sys.stderr)
        return 2
    module, function = STEPS[given[0]]
    return int(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    sys.exit(main())
