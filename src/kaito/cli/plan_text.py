"""A plan for people: the verdict first, then what is needed beside what there is, the split, the cost, the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from kaito.catalog.prices import Price
from kaito.cli.plan import Other, Plan
from kaito.cli.tables import align
from kaito.estimate import Estimate, in_words

BAR = 50
MARKS = {
    "weights": "W",
    "base": "W",
    "KV cache": "K",
    "adapters": "A",
    "adapter": "A",
    "activations": "a",
    "logits": "l",
    "engine": "e",
    "framework": "f",
}


def as_text(plan: Plan, tokens: int | None = None) -> str:
    """`tokens` of the training data; the time and the cost of a whole tuning follow from them."""
    if plan.estimate is None:
        return _template(plan)
    model, estimate = plan.model, plan.estimate
    assert model is not None
    what = f"tuning ({plan.workspace.tuning.method})" if plan.workspace.tuning else f"serving ({_engine(estimate)})"
    lines = [
        f"{plan.workspace.metadata.name}: {what} {model.name} on {_where(plan)}",
        f"  {'fits' if plan.fits else 'does not fit'}: {_verdict(plan)}",
        "",
        _indent(align([["", "NEEDED", "THERE IS"], *_needs(plan)])),
        "",
        f"  one GPU   {_bar(estimate)}",
        *(
            f"    {MARKS.get(name, '?')} {name:<12} {in_words(size)}"
            for name, size in estimate.parts.items()
            if size and estimate.usable_bytes
        ),
        "",
        _indent(align([*_results(plan), *_costs(plan, tokens)])),
    ]
    if plan.others:
        lines += ["", f"  {_order(plan)}:", _indent(align(list(_other_rows(plan))))]
    lines += ["", *(f"  warning: {warning}" for warning in plan.warnings)] if plan.warnings else []
    return "\n".join(lines)


def as_data(plan: Plan, tokens: int | None = None) -> dict[str, Any]:
    """For -o json and yaml. Sizes are bytes, prices US dollars."""
    estimate = plan.estimate
    return {
        "workspace": plan.workspace.metadata.name,
        "model": plan.model.name if plan.model else None,
        "instanceType": plan.instance.name,
        "fits": plan.fits,
        "nodes": plan.node_count,
        "existingNodes": list(plan.nodes.names) if plan.nodes else None,
        "price": None if plan.price is None else msgspec.to_builtins(plan.price),
        "usdPerHour": _hourly(plan.price, plan.node_count),
        "tuning": None if estimate is None else _training(plan, tokens),
        "estimate": None if estimate is None else msgspec.to_builtins(estimate),
        "alternatives": [
            {
                "instanceType": type_.name,
                "nodes": result.nodes,
                "perGPU": result.per_gpu_bytes,
                "priceUSDPerHour": _hourly(price, result.nodes),
            }
            for type_, result, price in plan.others
        ],
        "warnings": plan.warnings,
        "faults": plan.faults,
    }


def _template(plan: Plan) -> str:
    lines = [
        f"{plan.workspace.metadata.name}: a template on {_where(plan)}",
        "  nothing to estimate: the template says itself what its containers need",
        "",
        _indent(align([["nodes", str(plan.node_count)], *_costs(plan, None)])),
    ]
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in plan.warnings)])


def _engine(estimate: Estimate) -> str:
    return {"transformers": "built-in engine"}.get(estimate.engine, estimate.engine or "engine not known")


def _where(plan: Plan) -> str:
    type_ = plan.instance
    return f"{type_.name} ({type_.gpu_count} x {type_.gpu_model})" if type_.gpu_count else type_.name


def _verdict(plan: Plan) -> str:
    estimate, nodes = plan.estimate, plan.nodes
    assert estimate is not None
    if estimate.fits and nodes is not None and not plan.fits:
        return f"{estimate.nodes} nodes are needed, and {nodes.count} that are ready carry the labels"
    return estimate.why


def _needs(plan: Plan) -> Iterator[list[str]]:
    estimate, type_ = plan.estimate, plan.instance
    assert estimate is not None
    total = f" of {in_words(type_.gpu_memory_mib * 2**20)}" if type_.gpu_memory_mib else ""
    usable = f"{in_words(estimate.usable_bytes)} usable{total}" if estimate.usable_bytes else "not known"
    yield ["memory of the fullest GPU", in_words(estimate.per_gpu_bytes), usable]
    used = estimate.tensor_parallel * estimate.pipeline_parallel * estimate.data_parallel
    yield ["GPUs", str(used), f"{type_.gpu_count} a node"]
    there = "made when they are needed"
    if plan.nodes is not None:
        names = ", ".join(plan.nodes.names[:3]) + (", ..." if plan.nodes.count > 3 else "")
        there = f"{plan.nodes.count} ready ({names})" if plan.nodes.count else "none is ready yet"
    yield ["nodes", str(estimate.nodes), there]


def _bar(estimate: Estimate) -> str:
    """Each part's share of the usable memory as its own letter; a part that is there has at least one."""
    usable, total = estimate.usable_bytes, estimate.per_gpu_bytes
    if not usable:
        return "not known"
    scale = BAR / max(usable, total)
    text = "".join(MARKS.get(name, "?") * max(1, round(size * scale)) for name, size in estimate.parts.items() if size)
    if total <= usable:
        text = text[:BAR]
        return f"[{text}{'.' * (BAR - len(text))}] {total / usable:.0%}"
    end = round(usable * scale)
    return f"[{text[:end]}]{text[end:]} {total / usable:.0%}"


def _results(plan: Plan) -> Iterator[list[str]]:
    estimate = plan.estimate
    assert estimate is not None
    if plan.workspace.inference:
        yield ["weights", in_words(estimate.weights_bytes)]
        cache = in_words(estimate.kv_cache_bytes)
        yield (
            ["KV cache", f"{cache} a request of {estimate.context} tokens"] if estimate.context else ["KV cache", cache]
        )
    parallel = [
        f"{word} {size}"
        for word, size in (
            ("tensor", estimate.tensor_parallel),
            ("pipeline", estimate.pipeline_parallel),
            ("data", estimate.data_parallel),
        )
        if size > 1
    ]
    if parallel:
        yield ["parallelism", ", ".join(parallel)]
    if not estimate.fits:
        return
    if estimate.longest_context:
        yield ["longest context", f"{estimate.longest_context} tokens"]
    if estimate.requests_at_once:
        yield ["requests at once", f"{estimate.requests_at_once} of {estimate.context} tokens each"]
    if estimate.batch_size and plan.request and plan.request.tuning:
        each = " on each GPU" if plan.instance.gpu_count > 1 else ""
        yield ["largest batch", f"{estimate.batch_size} rows of {plan.request.tuning.length} tokens{each}"]


def _costs(plan: Plan, tokens: int | None) -> Iterator[list[str]]:
    if plan.price is None:
        yield ["cost", "not known; --instance-types FILE brings your own price"]
    else:
        price = plan.price
        where = ", ".join(filter(None, (price.region, f"list price of {price.dated}" if price.dated else price.source)))
        each = f", ${_money(price.usd_hour)} a node" if plan.node_count > 1 else ""
        yield ["cost", f"${_money(price.usd_hour * plan.node_count)} an hour{each} ({where})"]
    found = _training(plan, tokens) if plan.estimate and plan.estimate.fits else None
    if found is None:
        return
    per_million = f", ${_money(found['usdPerMillionTokens'])}" if found["usdPerMillionTokens"] is not None else ""
    yield ["a million tokens", f"about {_time(found['secondsPerMillionTokens'])} of training{per_million}"]
    if found["seconds"] is not None:
        usd = f", ${_money(found['usd'])}" if found["usd"] is not None else ""
        yield [f"{tokens} tokens", f"about {_time(found['seconds'])} for {plan.epochs:g} epochs{usd}"]


def _training(plan: Plan, tokens: int | None) -> dict[str, float | None] | None:
    """Time and money of training; None where the rate of the GPU or the size of the model is not known."""
    estimate = plan.estimate
    if estimate is None or not estimate.tokens_per_second:
        return None
    seconds = 1e6 / estimate.tokens_per_second
    hourly = _hourly(plan.price, estimate.nodes)
    whole = None if tokens is None else tokens * plan.epochs / estimate.tokens_per_second
    return {
        "secondsPerMillionTokens": seconds,
        "usdPerMillionTokens": None if hourly is None else hourly * seconds / 3600,
        "epochs": plan.epochs,
        "seconds": whole,
        "usd": None if hourly is None or whole is None else hourly * whole / 3600,
    }


def _time(seconds: float | None) -> str:
    assert seconds is not None
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _money(dollars: float | None) -> str:
    assert dollars is not None
    return f"{dollars:.2f}" if dollars >= 0.1 else f"{dollars:.3f}"


def _hourly(price: Price | None, nodes: int) -> float | None:
    return None if price is None else round(price.usd_hour * nodes, 4)


def _other_rows(plan: Plan) -> Iterator[list[str]]:
    for type_, result, price in plan.others:
        hourly = _hourly(price, result.nodes)
        yield [
            type_.name,
            f"{result.nodes} node{'s' if result.nodes > 1 else ''}",
            f"{type_.gpu_count} x {type_.gpu_model}",
            f"{in_words(result.per_gpu_bytes)} of {in_words(result.usable_bytes)}",
            f"${_money(hourly)}/h" if hourly is not None else "price not known",
            price.region if price else "",
            *_per_million((type_, result, price)),
        ]


def _per_million(other: Other) -> list[str]:
    _, result, price = other
    if not result.tokens_per_second:
        return [""]
    if price is None:
        return [f"{_time(1e6 / result.tokens_per_second)} a million tokens"]
    return [f"${_money(price.usd_hour * result.nodes * 1e6 / result.tokens_per_second / 3600)} a million tokens"]


def _order(plan: Plan) -> str:
    return "alternatives that fit, the cheapest first" if plan.fits else "what fits, the cheapest first"


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
