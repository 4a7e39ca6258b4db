"""A real step of a small model in a process of its own; prints what it took as one JSON line. Run by test_measured.

On a CPU the peak is the resident size; `framework` is that size after a tiny model went through the same steps. On a
GPU the peak is torch's own count of allocated bytes, without the CUDA context.
"""

import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BitsAndBytesConfig, DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TINY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def peak(device: str) -> int:
    """The most since the last `reset`."""
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else _status("VmHWM")


def reset(device: str) -> int:
    """From here on the peak is counted. Returns what is taken now: what imports took for a moment is not the step's."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return 0
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's way to begin the peak anew
    return _status("VmRSS")


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def tune(model: Any, batch: int, length: int, *, checkpointing: bool, rank: int, device: str) -> None:
    """Two steps of the `tune` step's own trainer over rows of `length` tokens."""
    from kaito.runtime.tune.device import find_device
    from kaito.runtime.tune.model import lora_config
    from kaito.runtime.tune.tokens import Tokenized, Tokens
    from kaito.runtime.tune.trainer import Batches, make_trainer, training_arguments

    words = {"<pad>": 0, "</s>": 1, "a": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="a")), pad_token="<pad>", eos_token="</s>"
    )
    with tempfile.TemporaryDirectory() as folder:
        asked = {"max_steps": 2, "gradient_checkpointing": checkpointing}
        found, _ = find_device("float32" if device == "cpu" else "bfloat16")
        arguments = training_arguments(asked, found, Path(folder), has_eval=False, batches=Batches(batch))
        row = [3 + word % 100 for word in range(length)]
        rows = Tokenized([Tokens(row, row) for _ in range(2 * batch)], [f"rows:{n}" for n in range(2 * batch)])
        make_trainer(model, tokenizer, lora_config({"r": rank}, model), arguments, rows, Tokenized()).train()


def serve(model: Any, ids: Any) -> None:
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
        for _ in range(4):
            model(input_ids=ids[:, :1], past_key_values=cache, logits_to_keep=1)


def make(shape: dict[str, int], device: str, folder: str) -> Any:
    """The model in 32 bit on a CPU, in 16 bit on a GPU; from `folder` in NF4 where one is given."""
    torch.manual_seed(0)
    config = LlamaConfig(**shape, attn_implementation="sdpa", pad_token_id=0, eos_token_id=1, use_cache=False)
    if not folder:
        return LlamaForCausalLM(config).to(device, torch.bfloat16 if device == "cuda" else torch.float32)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return LlamaForCausalLM.from_pretrained(folder, quantization_config=quantization, device_map={"": 0})


def run(asked: dict[str, Any], shape: dict[str, int], batch: int, length: int) -> None:
    device, job = asked["device"], asked["job"]
    model = make(shape, device, asked["folder"])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()  # making the model is not part of the step
    ids = torch.randint(0, shape["vocab_size"], (batch, length), device=device)
    if job == "serve":
        serve(model.eval(), ids)
    else:
        tune(model, batch, length, checkpointing=asked["checkpointing"], rank=asked["rank"], device=device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    run(given, TINY, 1, 16)
    before = reset(given["device"])
    run(given, given["shape"], given["batch"], given["length"])
    print(json.dumps({"framework": before, "peak": peak(given["device"])}))
