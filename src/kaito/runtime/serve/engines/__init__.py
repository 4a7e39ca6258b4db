"""Engines: they turn prompts into tokens. Only this folder of the server imports torch, transformers or vllm."""
