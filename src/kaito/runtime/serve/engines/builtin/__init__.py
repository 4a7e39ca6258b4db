"""The built-in engine: continuous batching on transformers, where vLLM is not installed or does not run."""
