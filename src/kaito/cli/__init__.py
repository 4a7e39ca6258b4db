"""The `kaito` command, also as `kubectl kaito`. Commands parse, call the rooms below and print; logic lives there."""

from __future__ import annotations

import sys


def entry() -> None:
    """What the installed scripts call: Ctrl-C is quiet from the first import on."""
    try:
        from kaito.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)
