"""All objects, in the order in which they are applied."""

from __future__ import annotations

from kaito.install.objects.around import around_documents
from kaito.install.objects.definitions import default_config_documents, definition_documents
from kaito.install.objects.operator import operator_documents
from kaito.install.objects.provisioner import provisioner_documents
from kaito.install.objects.rights import rights_documents
from kaito.install.template import Document


def documents() -> list[Document]:
    """Rights and configuration come before the Deployments that need them, the webhook's configuration last."""
    made = [
        *definition_documents(),
        *rights_documents(),
        *default_config_documents(),
        *operator_documents(),
        *provisioner_documents(),
        *around_documents(),
    ]
    return sorted(made, key=lambda document: _ORDER.get(document.body["kind"], 1))


_ORDER = {"CustomResourceDefinition": 0, "ServiceAccount": 0, "Deployment": 2, "ValidatingWebhookConfiguration": 3}
