"""Write `src/kaito/catalog/data/lora.csv`: the linear layers of each architecture that a LoRA adapter can go on.

Asked of the models that the pinned transformers builds from its default configs, on the meta device: no weights are
made. Embeddings and the output layer are left out, as the `tune` step leaves them out for `target_modules: all-linear`.
"""

import csv
import sys
import warnings
from pathlib import Path

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kaito.runtime.tune.model import linear_modules

# Defaults without a layer that every real model of the family has.
SETTINGS = {"bamba": {"attn_layer_indices": [0]}}
TABLE = Path(__file__).parents[1] / "src" / "kaito" / "catalog" / "data" / "lora.csv"


def targets(family: str) -> tuple[str, list[str]]:
    """The architecture's name and its targets. Raises whatever the library raises for a family without defaults."""
    config = transformers.AutoConfig.for_model(family, **SETTINGS.get(family, {}))
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return type(model).__name__, linear_modules(model, ())


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    found: dict[str, list[str]] = {}
    for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            name, modules = targets(family)
        except Exception as error:  # noqa: BLE001 - some families cannot be built from defaults; they are named
            print(f"{family}: {type(error).__name__}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
            continue
        if name.endswith("ForCausalLM") or modules:
            found.setdefault(name, modules)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["architecture", "targets"])
        writer.writerows([name, " ".join(found[name])] for name in sorted(found) if found[name])


if __name__ == "__main__":
    main()
