"""A real step of a small model in a process of its own; prints what it took as one JSON line. Run by test_measured.

On a CPU the peak is the resident size; `framework` is the peak after a tiny model went through the same steps. On a GPU
the peak is torch's own count of allocated bytes, without the CUDA context.
"""

import json
import resource
import sys
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, DynamicCache, LlamaConfig, LlamaForCausalLM

TINY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tune(model: Any, ids: Any, *, checkpointing: bool, rank: int) -> None:
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    lora = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", lora_dropout=0.0))
    lora.config.use_cache = False
    lora.train()
    trained = [parameter for parameter in lora.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained, foreach=False)
    on_gpu = ids.device.type == "cuda"
    for _ in range(2):
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=on_gpu):
            loss = lora(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def serve(model: Any, ids: Any) -> None:
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
        for _ in range(4):
            model(input_ids=ids[:, :1], past_key_values=cache, logits_to_keep=1)


def make(shape: dict[str, int], device: str, folder: str) -> Any:
    """The model in 32 bit on a CPU, in 16 bit on a GPU; from `folder` in NF4 where one is given."""
    torch.manual_seed(0)
    config = LlamaConfig(**shape, attn_implementation="sdpa")
    if not folder:
        return LlamaForCausalLM(config).to(device, torch.bfloat16 if device == "cuda" else torch.float32)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = LlamaForCausalLM.from_pretrained(folder, quantization_config=quantization, device_map={"": 0})
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def run(asked: dict[str, Any], shape: dict[str, int], batch: int, length: int) -> None:
    device, job = asked["device"], asked["job"]
    model = make(shape, device, asked["folder"])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()  # making the model is not part of the step
    ids = torch.randint(0, shape["vocab_size"], (batch, length), device=device)
    if job == "serve":
        serve(model.eval(), ids)
    else:
        tune(model, ids, checkpointing=asked["checkpointing"], rank=asked["rank"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    run(given, TINY, 1, 16)
    before = 0 if given["device"] == "cuda" else peak("cpu")
    run(given, given["shape"], given["batch"], given["length"])
    print(json.dumps({"framework": before, "peak": peak(given["device"])}))
