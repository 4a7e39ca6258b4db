"""Get and list: from the committed state, or from the recent past for a list that goes on where it stopped."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

import msgspec

from kaito.local.apiserver.answer import Accepted, encode, item, partial, to_table, wire
from kaito.local.apiserver.fields import check_fields
from kaito.local.apiserver.options import ListOptions
from kaito.local.apiserver.resources import Resource
from kaito.local.machinery import errors
from kaito.local.machinery.selectors import FieldSelector, LabelSelector, parse_field_selector, parse_label_selector
from kaito.local.store.errors import Compacted
from kaito.local.store.records import Key, Object, Record
from kaito.local.store.store import Store


class Selection:
    """Which objects of a kind a list or a watch is about: a namespace, a name, labels, fields."""

    def __init__(self, resource: Resource, namespace: str, options: ListOptions, name: str = "") -> None:
        self._resource = resource
        self._namespace = namespace
        self._name = name
        self._labels: LabelSelector | None = parse_label_selector(options.labels) if options.labels else None
        self._fields: FieldSelector | None = parse_field_selector(options.fields) if options.fields else None
        if self._fields is not None:
            check_fields(resource.info, self._fields)

    @property
    def has_selectors(self) -> bool:
        return self._labels is not None or self._fields is not None

    def matches(self, record: Record) -> bool:
        if self._namespace and record.key.namespace != self._namespace:
            return False
        if self._name and record.key.name != self._name:
            return False
        if self._labels is None and self._fields is None:
            return True
        if self._labels is not None and not self._labels.matches(record.value["metadata"].get("labels") or {}):
            return False
        if self._fields is None:
            return True
        return self._fields.matches(self._resource.strategy.from_storage(record.value, self._resource.info.group))


class _Token(msgspec.Struct):
    """Where a list goes on: at the version of its first page, after this key."""

    revision: int
    namespace: str
    name: str


class Reader:
    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, resource: Resource, namespace: str, name: str) -> Record:
        record = self._store.get(Key(resource.bucket, namespace, name))
        if record is None:
            raise errors.not_found(resource.info.group, resource.info.plural, name)
        return record

    def present(self, resource: Resource, record: Record, accepted: Accepted, include: str, now: datetime) -> bytes:
        """One object in the form that the client asked for."""
        if accepted.transform == "Table":
            metadata = {"resourceVersion": str(record.revision)}
            return encode(to_table(resource, [record], accepted=accepted, include=include, now=now, metadata=metadata))
        if accepted.transform == "PartialObjectMetadata":
            return encode(partial(resource, record, accepted.version))
        return wire(resource, record)

    def page(
        self,
        resource: Resource,
        namespace: str,
        options: ListOptions,
        *,
        accepted: Accepted,
        include: str,
        now: datetime,
    ) -> bytes:
        selection = Selection(resource, namespace, options)
        records, revision, after = self._snapshot(resource, namespace, options)
        if after is not None:
            records = [record for record in records if (record.key.namespace, record.key.name) > after]
        if selection.has_selectors:
            records = [record for record in records if selection.matches(record)]
        metadata: Object = {"resourceVersion": str(revision)}
        if resource.crd and not accepted.transform:
            metadata["continue"] = ""  # a list of a custom kind always carries it
        if options.limit > 0 and len(records) > options.limit:
            left = len(records) - options.limit
            records = records[: options.limit]
            last = records[-1].key
            metadata["continue"] = _encode_token(_Token(revision, last.namespace, last.name))
            if not selection.has_selectors:
                metadata["remainingItemCount"] = left
        return _present_list(resource, records, metadata, accepted=accepted, include=include, now=now)

    def _snapshot(
        self, resource: Resource, namespace: str, options: ListOptions
    ) -> tuple[list[Record], int, tuple[str, str] | None]:
        """The records, the version that they are at, and the key after which the page begins."""
        if options.continue_token:
            if options.resource_version not in ("", "0"):
                raise errors.bad_request("specifying resource version is not allowed when using continue")
            token = _decode_token(options.continue_token)
            return self._at(resource, namespace, token.revision), token.revision, (token.namespace, token.name)
        wanted = int(options.resource_version or 0)
        _check_match(options)
        if wanted > self._store.revision:
            message = f"Too large resource version: {wanted}, current: {self._store.revision}"
            raise errors.timed_out(message, retry_after=1)
        if options.version_match == "Exact":
            return self._at(resource, namespace, wanted), wanted, None
        return self._store.records(resource.bucket, namespace), self._store.revision, None

    def _at(self, resource: Resource, namespace: str, revision: int) -> list[Record]:
        try:
            return self._store.records_at(resource.bucket, namespace, revision)
        except Compacted as error:
            message = (
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter, or use the continue token in this response to retrieve the "
                "remainder of the results. Continuing with the provided token results in an inconsistent list - "
                "objects that were created, modified, or deleted between the time the first chunk was returned and "
                "now may show up in the list."
            )
            raise errors.gone(message) from error


def _present_list(
    resource: Resource, records: list[Record], metadata: Object, *, accepted: Accepted, include: str, now: datetime
) -> bytes:
    if accepted.transform == "Table":
        return encode(to_table(resource, records, accepted=accepted, include=include, now=now, metadata=metadata))
    if accepted.transform == "PartialObjectMetadata":
        api_version, kind = f"meta.k8s.io/{accepted.version}", "PartialObjectMetadataList"
        items = [encode(partial(resource, record, accepted.version)) for record in records]
    else:
        api_version, kind = resource.info.api_version, resource.info.list_kind
        items = [item(resource, record) for record in records]
    head = encode({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))


def _check_match(options: ListOptions) -> None:
    match = options.version_match
    if not match:
        return
    if match not in ("Exact", "NotOlderThan"):
        message = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        cause = errors.FieldCause("resourceVersionMatch", message, errors.FIELD_NOT_SUPPORTED)
    elif not options.resource_version:
        message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        cause = errors.FieldCause("resourceVersionMatch", message, errors.FIELD_FORBIDDEN)
    elif match == "Exact" and options.resource_version == "0":
        message = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        cause = errors.FieldCause("resourceVersionMatch", message, errors.FIELD_FORBIDDEN)
    else:
        return
    raise errors.invalid("meta.k8s.io", "ListOptions", "", [cause])


def _encode_token(token: _Token) -> str:
    return base64.urlsafe_b64encode(encode(token)).decode().rstrip("=")


def _decode_token(text: str) -> _Token:
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Token)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise errors.bad_request(f"continue key is not valid: {error}") from error
