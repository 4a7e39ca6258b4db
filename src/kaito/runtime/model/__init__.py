"""Weights: brought from where KAITO_MODEL says into KAITO_MODEL_DIR, a Hugging Face folder."""
