"""What a model needs on an instance type: memory, GPUs, nodes, parallelism; for serving and for tuning. Pure.

Units are bytes unless a name says otherwise. Formulas carry their source; constants that are a choice say whose.
"""

from kaito.estimate.result import GIB, Estimate, in_words
from kaito.estimate.serving import DEFAULT_CONTEXT, estimate_serving
from kaito.estimate.tuning import estimate_tuning

__all__ = ["DEFAULT_CONTEXT", "GIB", "Estimate", "estimate_serving", "estimate_tuning", "in_words"]
