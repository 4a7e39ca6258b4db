"""Which API server to talk to and as whom, found as kubectl finds it.

lightkube reads one file; kubectl merges all that KUBECONFIG lists, and takes a pod's own account only where there is
no file. lightkube also knows no credential plugins of `client.authentication.k8s.io/v1`, whose answers are those of
v1beta1, and does not tell plugins what they are asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import NameValue, User, UserExec
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from kaito.kube.errors import ConfigError

START = "`kaito up --detach` starts a control plane on this machine, --kubeconfig names a file"
EXEC_V1 = "client.authentication.k8s.io/v1"
EXEC_V1BETA1 = "client.authentication.k8s.io/v1beta1"
SECTIONS = ("clusters", "contexts", "users")
FILE_KEYS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def load_config(
    kubeconfig: Path | None = None, context: str | None = None, environment: Mapping[str, str] = os.environ
) -> SingleConfig:
    """The connection that `kubectl` would use: the given file, KUBECONFIG, ~/.kube/config, or the pod's own account.

    Raises ConfigError with the way out.
    """
    found = _files(kubeconfig, environment)
    where = ", ".join(map(str, found)) or "of the pod's service account"
    if not found and not Path(SERVICE_ACCOUNT, "token").is_file():
        raise ConfigError("there is no kubeconfig: KUBECONFIG is not set, and ~/.kube/config does not exist; " + START)
    try:
        configs = KubeConfig.from_dict(merge_files(found)) if found else KubeConfig.from_service_account()
        config = _choose(configs, context, where)
    except (LightkubeConfigError, OSError, msgspec.ValidationError) as error:
        raise ConfigError(f"no usable kubeconfig in {where} ({error}); start `kaito up` or name one") from error
    except KeyError as error:
        raise ConfigError(f"the kubeconfig {where} has no {error}; write it anew or name another") from error
    if not config.cluster.server.startswith(("https://", "http://")):
        raise ConfigError(f'the kubeconfig {where} names the server "{config.cluster.server}", which is no URL')
    return config._replace(user=_user(config.user))


def contexts(kubeconfig: Path | None = None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The names of all contexts, in order. Raises ConfigError."""
    return [str(entry["name"]) for entry in merge_files(_files(kubeconfig, environment))["contexts"]]


def _choose(configs: KubeConfig, context: str | None, where: str) -> SingleConfig:
    if context and context not in configs.contexts:
        known = ", ".join(configs.contexts) or "none"
        raise ConfigError(f'the kubeconfig {where} has no context "{context}"; it has: {known}')
    if not context and not configs.current_context:
        raise ConfigError(f"the kubeconfig {where} has no current context; name one with --context")
    config = configs.get(context)
    if config is None:
        raise ConfigError(f"the kubeconfig {where} has no current context; name one with --context")
    return config


def _files(kubeconfig: Path | None, environment: Mapping[str, str]) -> list[Path]:
    if kubeconfig is not None:
        if not kubeconfig.expanduser().is_file():
            fault = "is no file" if kubeconfig.expanduser().exists() else "does not exist"
            raise ConfigError(f"the kubeconfig {kubeconfig} {fault}; start `kaito up` or name another")
        return [kubeconfig.expanduser()]
    listed = environment.get("KUBECONFIG", "")
    if listed:
        files = [path for name in listed.split(os.pathsep) if name and (path := Path(name).expanduser()).is_file()]
        if not files:
            raise ConfigError(f"KUBECONFIG names {listed}, which does not exist; start `kaito up` or name another")
        return files
    default = Path("~/.kube/config").expanduser()
    return [default] if default.is_file() else []


def merge_files(files: Iterable[Path]) -> dict[str, Any]:
    """One kubeconfig out of several, as kubectl merges them: of each name the first wins. Raises ConfigError.

    Paths in a file are relative to it, so they are made absolute here.
    """
    merged: dict[str, Any] = {section: [] for section in SECTIONS}
    for file in files:
        content = _read(file)
        merged["current-context"] = merged.get("current-context") or content.get("current-context")
        for section in SECTIONS:
            known = {entry["name"] for entry in merged[section]}
            merged[section] += [_absolute(entry, file) for entry in _entries(content, section, file, known)]
    return merged


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f" (line {line + 1})" if line is not None else ""
        raise ConfigError(f"the kubeconfig {file} is not YAML{place}; write it anew or name another") from error
    except OSError as error:
        raise ConfigError(f"the kubeconfig {file} cannot be read: {error.strerror}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is not a kubeconfig: it holds no clusters, contexts and users")
    return content


def _entries(content: dict[str, Any], section: str, file: Path, known: set[str]) -> Iterable[dict[str, Any]]:
    entries = content.get(section) or []
    if not isinstance(entries, list) or not all(isinstance(one, dict) and "name" in one for one in entries):
        raise ConfigError(f"the kubeconfig {file} has {section} that are no list of named entries")
    return [one for one in entries if one["name"] not in known]


def _absolute(entry: dict[str, Any], file: Path) -> dict[str, Any]:
    changed = dict(entry)
    for part in ("cluster", "user"):
        if isinstance(body := entry.get(part), dict):
            paths = {key: str(file.parent / body[key]) for key in FILE_KEYS if body.get(key)}
            changed[part] = {**body, **paths}
    return changed


def _user(user: User | None) -> User:
    if user is None or user.exec is None:
        return user or User()
    plugin = user.exec
    request = {"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
    told = NameValue("KUBERNETES_EXEC_INFO", json.dumps(request))
    version = EXEC_V1BETA1 if plugin.apiVersion == EXEC_V1 else plugin.apiVersion
    renamed = UserExec(version, plugin.command, [told, *(plugin.env or [])], plugin.args, plugin.installHint)
    return msgspec.structs.replace(user, exec=renamed)
