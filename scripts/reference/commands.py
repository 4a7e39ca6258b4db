"""docs/reference/cli.md and configuration.md: commands and flags, from the code that reads them."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from kaito.cli.main import app
from kaito.cli.teaching import EXAMPLES, EXIT_CODES, SECTIONS

CLI_HEAD = """# The command

<!-- Made by `make reference` from kaito.cli; a test compares them. Edit the code. -->

`kaito COMMAND --help` says the same in a terminal. As a plugin of kubectl it is `kubectl kaito COMMAND`.

`--kubeconfig`, `--context` and `-n` may stand before the command or after it. The API server is, in this order, that of
`--kubeconfig`, of `KUBECONFIG` (several files are merged, as kubectl does it), of `kaito up` for `$KAITO_HOME`, of `~/.kube/config`, or of the
pod that it runs in.

"""
CONFIGURATION_HEAD = """# Configuration

<!-- Made by `make reference` from kaito.cli; a test compares them. Edit the code. -->

The flags of the two processes of a cluster. With the chart most of them are [values](chart.md); `operator.extraArgs` and
`provisioner.extraArgs` take the others.

"""
PROCESSES = ("operator", "provisioner")
VARIABLES = """## Variables of the environment

| variable | read by | meaning |
|---|---|---|
| `KUBECONFIG` | all commands | kubeconfig files, with `:` between them |
| `KAITO_HOME` | `up`, `down`, all commands | the folder of this machine's control plane; default `~/.kaito` |
| `KAITO_INSTANCE_TYPES` | `plan`, `skus`, the operator | a file of [instance types of your own](../planning.md#your-own-instance-types-and-prices) |
| `HF_TOKEN`, `HF_ENDPOINT` | `plan` | for gated models; another Hub |
| `ARM_*`, `AZURE_*`, `KAITO_AZURE_*` | the provisioner | [Azure](../provisioner.md#azure) |

The variables of the steps in the pods are in [Architecture](../architecture.md).
"""


def page() -> str:
    root: Any = get_command(app)
    names = [name for _, section in SECTIONS for name in section if name in root.commands]
    names += [name for name in root.commands if name not in names]
    parts = [
        CLI_HEAD,
        "| exit code | meaning |\n|---|---|\n",
        *(f"| {code} | {words} |\n" for code, words in EXIT_CODES),
    ]
    parts += [_command(name, root.commands[name], flags=name not in PROCESSES) for name in names]
    return "".join(parts)


def configuration_page() -> str:
    root: Any = get_command(app)
    parts = [CONFIGURATION_HEAD]
    parts += [f"## kaito {name}\n\n{_options(root.commands[name])}\n" for name in PROCESSES]
    return "".join([*parts, VARIABLES])


def _command(name: str, command: Any, *, flags: bool) -> str:
    text = f"\n## kaito {name}\n\n{_prose(command.help)}\n\n"
    examples = "".join(f"    {line}  # {meaning}\n" for line, meaning in _aligned(EXAMPLES.get(name, ())))
    text += f"{examples}\n" if examples else ""
    return text + (_options(command) if flags else "Its flags are in [Configuration](configuration.md).\n")


def _aligned(examples: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    width = max((len(line) for line, _ in examples if len(line) < 70), default=0)
    return [(line.ljust(width), meaning) for line, meaning in examples]


def _options(command: Any) -> str:
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    return "| | default | meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    label = names if is_option else f"`{parameter.name.upper()}`"
    default = "required" if parameter.required else _default(parameter)
    choices = parameter.type_descriptor.choices if parameter.type_descriptor.is_choice else ()
    words = f"{_words(parameter.help or '')}{f' One of {_list(choices)}.' if choices else ''}"
    return f"| {label} | {default} | {words} |\n"


def _list(choices: Any) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


def _default(parameter: Any) -> str:
    value = parameter.default
    if value in (None, "", (), []) or value is False:
        return ""
    return f"`{str(value).lower() if value is True else value}`"


def _words(text: str) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _prose(text: str) -> str:
    """Outside of a table a bar needs no escape, and paragraphs stay."""
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))
