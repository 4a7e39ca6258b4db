"""The vllm engine: vLLM's own OpenAI server, started and watched as a child, with this server's surface in front."""
