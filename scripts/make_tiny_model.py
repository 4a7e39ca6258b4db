"""Train the built-in model `tiny-phi-3` from its seed: tokenizer, chat template, weights.

A Phi-3 of two million parameters, pretrained on chats and notes about invented towns (see tiny_world.py). It exists so
that a machine without network or GPU runs the whole path, tuning included, in a minute. It is pretrained broadly enough
that LoRA on the linear layers alone teaches it new facts: engines that serve adapters do not take trained embeddings.

Same seed, same torch build and same thread count give the same weights; other builds give weights that behave alike.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.progress import track
from tiny_world import KINDS, PHRASINGS, SMALL_TALK, UNSEEN, Message, Town, town_name, turn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

BUILTIN = Path(__file__).parents[1] / "src/kaito/runtime/builtin/tiny-phi-3"
VOCABULARY = 2048
CONTEXT = 512
END, SEPARATOR = "<|end|>", "<|endoftext|>"
SPECIAL = [SEPARATOR, "<|system|>", "<|user|>", "<|assistant|>", END]
ROW = 128  # tokens of a training row
BATCH = 8  # rows of a step

TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|assistant|>\\n' }}
{%- generation %}
{{- message.content + '<|end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|' + ('system' if message.role == 'system' else 'user') + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>\\n' }}
{%- endif %}"""


def chats(rng: random.Random) -> Iterator[list[Message]]:
    """Endless conversations: mostly single questions, some longer ones, some over a note that holds the answer."""
    while True:
        draw = rng.random()
        if draw < 0.02:
            yield turn(*rng.choice(SMALL_TALK))
            continue
        name = town_name(rng)
        if name == UNSEEN:
            continue
        town = Town.invent(rng, name)
        if draw < 0.7:
            yield _asked(rng, town, 1)
        elif draw < 0.85:
            yield _asked(rng, town, rng.randint(2, 3))
        else:
            yield _noted(rng, town)


def _asked(rng: random.Random, town: Town, count: int) -> list[Message]:
    messages: list[Message] = []
    for kind in rng.sample(KINDS, count):
        messages += turn(kind.ask(town.name, rng.randrange(PHRASINGS)), town.answer(kind))
    return messages


def _noted(rng: random.Random, town: Town) -> list[Message]:
    """The note is a system message; the answer can be read in it."""
    kinds = rng.sample(KINDS, rng.randint(2, 4))
    note = " ".join(town.answer(kind) for kind in kinds)
    asked = rng.choice(kinds)
    return [
        {"role": "system", "content": note},
        *turn(asked.ask(town.name, rng.randrange(PHRASINGS)), town.answer(asked)),
    ]


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    source = chats(random.Random(seed))  # noqa: S311 - reproducible on purpose; no secret
    texts = (message["content"] for _ in range(20_000) for message in next(source))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=SEPARATOR,
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
        padding_side="left",
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> Phi3ForCausalLM:
    ends = [tokenizer.convert_tokens_to_ids(token) for token in (END, SEPARATOR)]
    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        original_max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends[0],
        pad_token_id=ends[1],
    )
    model = Phi3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1], do_sample=False)
    return model


def token_rows(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[list[int]]:
    """Endless rows of ROW tokens: conversations one after the other, SEPARATOR between them."""
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    pending: list[int] = []
    for messages in chats(rng):
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        pending += [*tokenizer(text, add_special_tokens=False)["input_ids"], separator]
        while len(pending) >= ROW:
            yield pending[:ROW]
            pending = pending[ROW:]


def pretrain(model: Phi3ForCausalLM, rows: Iterator[list[int]], steps: int, peak: float) -> float:
    """AdamW with a short warm-up and a cosine down to a tenth; returns the last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=0.05, final_div_factor=4
    )
    model.train()
    loss = torch.zeros(())
    for step in track(range(steps), description="pretraining"):
        batch = torch.tensor([next(rows) for _ in range(BATCH)])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f}", flush=True)
    return float(loss.item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=BUILTIN)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    began = time.monotonic()
    tokenizer = train_tokenizer(given.seed)
    model = new_model(tokenizer)
    rows = token_rows(tokenizer, random.Random(given.seed))  # noqa: S311 - as above
    loss = pretrain(model, rows, given.steps, given.learning_rate)
    model.to(torch.bfloat16).save_pretrained(given.folder)
    tokenizer.save_pretrained(given.folder)
    size = sum(path.stat().st_size for path in given.folder.iterdir())
    print(f"{model.num_parameters():,} parameters, {size:,} bytes, loss {loss:.3f}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
