"""Kaito: one Workspace serves or fine-tunes a language model, on a Kubernetes cluster or on one machine."""

__version__ = "0.1.0"
