"""The workspace room's stage: an operator in the test's own loop against the embedded API server."""

from tests.workspace.conftest import stage

__all__ = ["stage"]
