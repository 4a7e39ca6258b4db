"""Webhook configurations: the defaults, and what this control plane cannot call."""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import FieldCauses, GenerationStrategy, set_default
from kaito.local.machinery.errors import FIELD_FORBIDDEN, FIELD_REQUIRED, FieldCause
from kaito.local.store.records import Object


class WebhookStrategy(GenerationStrategy):
    def default(self, obj: Object) -> None:
        for webhook in obj.get("webhooks") or []:
            set_default(webhook, "failurePolicy", "Fail")
            set_default(webhook, "matchPolicy", "Equivalent")
            set_default(webhook, "namespaceSelector", {})
            set_default(webhook, "objectSelector", {})
            set_default(webhook, "timeoutSeconds", 10)
            if obj.get("kind") == "MutatingWebhookConfiguration":
                set_default(webhook, "reinvocationPolicy", "Never")
            for rule in webhook.get("rules") or []:
                set_default(rule, "scope", "*")

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        causes: FieldCauses = []
        for position, webhook in enumerate(obj.get("webhooks") or []):
            where = f"webhooks[{position}]"
            config = webhook.get("clientConfig") or {}
            url, service = config.get("url") or "", config.get("service") or {}
            if bool(url) == bool(service):
                message = "Required value: exactly one of url or service is required"
                causes.append(FieldCause(f"{where}.clientConfig", message, FIELD_REQUIRED))
            elif service:
                causes += _missing(service, f"{where}.clientConfig.service")
            elif not url.startswith("https://"):
                message = f"Invalid value: \"{url}\": 'https' is the only allowed URL scheme"
                causes.append(FieldCause(f"{where}.clientConfig.url", message))
            if webhook.get("matchConditions"):
                message = "Forbidden: matchConditions are not served by this control plane; narrow the rules instead"
                causes.append(FieldCause(f"{where}.matchConditions", message, FIELD_FORBIDDEN))
        return causes


def _missing(service: Object, where: str) -> FieldCauses:
    wanted = [name for name in ("namespace", "name") if not service.get(name)]
    return [
        FieldCause(f"{where}.{name}", f"Required value: service {name} is required", FIELD_REQUIRED) for name in wanted
    ]
