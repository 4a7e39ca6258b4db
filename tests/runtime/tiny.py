"""A small random model of the Phi-3 architecture with a tokenizer and a chat template, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ '<|assistant|>\n' }}{% generation %}{{ m['content'] + '<|end|>' }}"
    "{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>"]
TEXT = "the capital of France is Paris and a cat sat on what where who colour red green blue one two three"
WORDS = TEXT.split()


def make_tokenizer(folder: Path, template: str = TEMPLATE) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": 512,
                "eos_token": "<|end|>",
                "pad_token": "<|endoftext|>",
                "chat_template": template,
            }
        )
    )


def make_model(folder: Path, hidden: int = 64, layers: int = 2, seed: int = 0) -> Path:
    """Write the model and its tokenizer into `folder`; the same seed gives the same weights."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    make_tokenizer(folder)
    torch.manual_seed(seed)
    config = Phi3Config(
        vocab_size=512, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512,
        original_max_position_embeddings=512, bos_token_id=0, eos_token_id=4, pad_token_id=0,
        tie_word_embeddings=True, attention_dropout=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    Phi3ForCausalLM(config).save_pretrained(folder)
    return folder


def chats(count: int) -> list[dict[str, object]]:
    """Chats of different lengths, each with its own answer."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"what is {WORDS[i % len(WORDS)]} {i}" + " and a cat" * (i % 5)},
                {"role": "assistant", "content": f"the {WORDS[(i * 7) % len(WORDS)]} of {i}"},
            ]
        }
        for i in range(count)
    ]
