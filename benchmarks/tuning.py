"""Tuning speed and memory: this runtime beside bare TRL, on the CPU or the GPU of this machine, in one run.

    (a) bare TRL with equal settings: the same trainer without our checkpoints, progress and report
    (b) TRL with what KAITO's default config gives: batch 1, padding, the cache emptied each step
    (b16) the same in bfloat16, which KAITO's ConfigMap asks for and which some processors are faster in
    (c) this runtime with its defaults
    (c16) this runtime with `torch_dtype: bfloat16`

Each runs in a process of its own, on the same model (random weights, about 100 million parameters by default), rows and
LoRA settings; they take turns, `--rounds` times, so that a busy machine is equally busy for all. Tokens are real
ones, without padding; seconds are those of training alone. Judged is the processor time, which other programs on the
machine disturb least. `--parameters small` takes a model of 3 million, for a quick look.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {"small": (192, 4, 2048), "100m": (768, 12, 16000)}  # hidden, layers, vocabulary
SETTINGS = {"learning_rate": 1e-4, "num_train_epochs": 1, "per_device_train_batch_size": 4, "seed": 1}


def make_model(folder: Path, size: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, vocabulary = SIZES[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tokenizer(folder)


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<end>": 1, "<unk>": 2, **{f"w{i}": i + 3 for i in range(2000)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "pad_token": "<pad>",
                    "model_max_length": 1024})
    )  # fmt: skip


def make_rows(count: int) -> list[list[int]]:
    """Rows of lognormal length, as instruction data has."""
    rng = random.Random(0)
    lengths = [min(512, max(8, int(rng.lognormvariate(4.2, 0.7)))) for _ in range(count)]
    return [[rng.randrange(3, 2003) for _ in range(length)] for length in lengths]


def run_trl(kind: str, folder: Path) -> None:
    """(a) or (b), in this process."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class EmptyCache(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            torch.cuda.empty_cache()  # as KAITO's tuning does; without a GPU it costs nothing

    cuda = torch.cuda.is_available()
    rows = json.loads((folder / "rows.json").read_text())
    equal = kind == "a"
    options: dict[str, Any] = {**SETTINGS, "padding_free": True, "max_length": None} if equal else {
        **SETTINGS, "per_device_train_batch_size": 1, "max_length": 1024}  # fmt: skip
    arguments = SFTConfig(
        output_dir=str(folder / "trl"), use_cpu=not cuda, bf16=cuda, save_strategy="no", report_to="none",
        logging_steps=1, gradient_checkpointing=cuda, disable_tqdm=True, dataloader_pin_memory=cuda, **options,
    )  # fmt: skip
    dtype = torch.bfloat16 if cuda or kind == "b16" else torch.float32
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype),
        args=arguments,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        peft_config=LoraConfig(r=8, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        callbacks=[] if equal else [EmptyCache()],
    )
    trainer.train()


def run_ours(kind: str, folder: Path) -> None:
    """(c): the tune step's own session on the same rows."""
    from kaito.runtime.data.dataset import TRAIN, DatasetWriter, Placed, content_digest, read_dataset
    from kaito.runtime.data.rows import Example
    from kaito.runtime.progress import Progress
    from kaito.runtime.step import Step
    from kaito.runtime.tune.main import tune

    rows = json.loads((folder / "rows.json").read_text())
    data = folder / "data"
    data.mkdir(exist_ok=True)
    with DatasetWriter(data / TRAIN) as writer:
        for line, row in enumerate(rows, 1):  # the end token that the encoder adds is the row's last one
            writer.add(Placed(Example("text", text=" ".join(f"w{one - 3}" for one in row[:-1])), "rows", line))
    (data / "report.json").write_text(json.dumps({"digest": content_digest(read_dataset(data / TRAIN))}))
    config = folder / "config.yaml"
    sections = {"TrainingArguments": SETTINGS, "ModelConfig": {"torch_dtype": "bfloat16" if kind == "c16" else "auto"}}
    config.write_text(json.dumps({"training_config": sections}))  # JSON is YAML
    paths = {"CONFIG": config, "DATA_DIR": data, "MODEL_DIR": folder / "model"}
    environ = {**os.environ, "KAITO_METHOD": "lora", **{f"KAITO_{name}": str(path) for name, path in paths.items()}}
    with tempfile.TemporaryDirectory() as output:
        tune(Step("tune", {**environ, "KAITO_OUTPUT_DIR": output}, Progress("tune")))


def child(kind: str, folder: Path) -> None:
    """One run; what its training took goes to a file."""
    from trl import SFTTrainer

    taken: dict[str, Any] = {}
    train = SFTTrainer.train

    def timed(self: Any, *arguments: Any, **options: Any) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        result = train(self, *arguments, **options)
        taken.update(wall=time.monotonic() - wall, cpu=time.process_time() - cpu, peak=peak_memory())
        return result

    SFTTrainer.train = timed
    run_ours(kind, folder) if kind.startswith("c") else run_trl(kind, folder)
    (folder / f"result-{kind}.json").write_text(json.dumps(taken))


def peak_memory() -> int:
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", choices=SIZES, default="100m")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model", arguments.parameters)
        (folder / "rows.json").write_text(json.dumps(make_rows(arguments.rows)))
        tokens = sum(map(len, json.loads((folder / "rows.json").read_text())))
        results: dict[str, list[dict[str, float]]] = {kind: [] for kind in NAMES}
        for _ in range(arguments.rounds):
            for kind in NAMES:
                taken = measure(kind, folder, arguments.threads)
                if taken is None:
                    return 1
                results[kind].append(taken)
                print(f"({kind}) {tokens / taken['cpu']:.0f} tokens per CPU second", file=sys.stderr)
    show(results, tokens)
    return 0


NAMES = {
    "a": "bare TRL, equal settings",
    "b": "TRL, KAITO's defaults",
    "b16": "the same in bfloat16",
    "c": "this runtime, defaults",
    "c16": "this runtime, bfloat16",
}


def measure(kind: str, folder: Path, threads: int) -> dict[str, float] | None:
    """One run in a process of its own, with the same threads for all, and none that spins."""
    command = [sys.executable, __file__, "--child", kind, str(folder)]
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    taken: dict[str, float] = json.loads((folder / f"result-{kind}.json").read_text())
    return taken


def show(results: dict[str, list[dict[str, float]]], tokens: int) -> None:
    print("| | tokens per CPU second (lowest to highest) | tokens per second | peak MiB |\n|---|---|---|---|")
    speed: dict[str, float] = {}
    for kind, runs in results.items():
        by_cpu = [tokens / run["cpu"] for run in runs]
        speed[kind] = statistics.median(by_cpu)
        wall = statistics.median(tokens / run["wall"] for run in runs)
        peak = statistics.median(run["peak"] for run in runs) / 2**20
        print(f"| ({kind}) {NAMES[kind]} | {speed[kind]:.0f} ({min(by_cpu):.0f} to {max(by_cpu):.0f}) "
              f"| {wall:.0f} | {peak:.0f} |")  # fmt: skip
    print(f"\n(c) / (a) = {speed['c'] / speed['a']:.2f} (aim: 1.0)")
    print(f"(c) / (b) = {speed['c'] / speed['b']:.2f} (aim: 1.5 on a CPU)")
    print(f"(c16) / (b16) = {speed['c16'] / speed['b16']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
