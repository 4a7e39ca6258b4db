"""The CEL engine is loaded without the terminal toolkits of its own command."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, sys
from kaito.local.machinery.rules import Expression, Scope
expression = Expression.compile("self.lowerAscii() + string(min([2, 1]))")
value = Scope("A", "", expression.functions).evaluate(expression, optional=False)
before = sorted(name for name in ("typer", "rich", "prompt_toolkit") if name in sys.modules)
import cel
print(json.dumps({"value": value, "before": before, "whole": cel.evaluate("1 + 1")}))
"""


def test_a_rule_needs_no_terminal_toolkit_and_the_whole_package_can_still_be_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"value": "a1", "before": [], "whole": 2}
