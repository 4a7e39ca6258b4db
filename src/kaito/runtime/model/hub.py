"""Weights from the Hugging Face hub, with its own client: resumable, by revision, with the access secret's token."""

from __future__ import annotations

import re
from pathlib import Path

from kaito.runtime.errors import InputError, StepError
from kaito.runtime.step import Step

PATTERNS = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.tiktoken", "*.py"]
_SHA = re.compile(r"[0-9a-f]{40}")


def download(step: Step, repository: str, revision: str, target: Path) -> None:
    """The snapshot of `repository` at `revision` into `target`. Raises InputError or StepError."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shown = f"{repository} at revision {revision}"
    token = step.environ.get("HF_TOKEN") or None
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    try:
        snapshot_download(
            repository,
            revision=revision,
            local_dir=target,
            token=token or False,
            allow_patterns=PATTERNS,
            etag_timeout=20,
        )
    except GatedRepoError as error:
        hint = (
            "accept the model's licence with the token's account" if token else "give modelAccessSecret with HF_TOKEN"
        )
        raise InputError("ModelForbidden", f"the hub does not give {shown}: the model is gated", hint) from error
    except RevisionNotFoundError as error:
        raise InputError("ModelNotFound", f"the hub has no {shown}", "correct the revision") from error
    except RepositoryNotFoundError as error:
        hint = "correct its name, or give modelAccessSecret with HF_TOKEN if it is private"
        raise InputError("ModelNotFound", f"the hub has no model {repository}", hint) from error
    except HFValidationError as error:
        raise InputError(
            "ModelNotFound", f"{repository!r} is not a model's name on the hub", "use owner/name"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, EntryNotFoundError, ConnectionError, TimeoutError) as error:
        hint = "check the network, or use weights from an image, a volume or a built-in model; the step tries again"
        raise StepError("HubUnreachable", f"{shown} cannot be fetched: the hub does not answer", hint) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise StepError("HubRefused", f"{shown} cannot be fetched: the hub answers {status}", "try again") from error
