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
            url = (webhook.get("clientConfig") or {}).get("url") or ""
            if not url:
                message = (
                    "Required value: this control plane calls webhooks by url; it has no network of Services for them"
                )
                causes.append(FieldCause(f"{where}.clientConfig.url", message, FIELD_REQUIRED))
            elif not url.startswith("https://"):
                message = f"Invalid value: \"{url}\": 'https' is the only allowed URL scheme"
                causes.append(FieldCause(f"{where}.clientConfig.url", message))
            if webhook.get("matchConditions"):
                message = "Forbidden: matchConditions are not served by this control plane; narrow the rules instead"
                causes.append(FieldCause(f"{where}.matchConditions", message, FIELD_FORBIDDEN))
        return causes
