"""The long-running processes of a cluster: operator and provisioner."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kaito.cli.connection import find_kubeconfig
from kaito.cli.errors import CommandError
from kaito.cli.logs import set_up_logs
from kaito.cli.options import Context, Kubeconfig, LogJson, LogLevel
from kaito.kube.errors import KubeError


def register(app: typer.Typer) -> None:
    app.command()(operator)
    app.command()(provisioner)


def operator(
    nodes: Annotated[
        Literal["gpu-provisioner", "karpenter", "byo"], typer.Option(help="How nodes come.")
    ] = "gpu-provisioner",
    node_api: Annotated[
        Literal["auto", "nodeclaim-v1", "nodeclaim-v1beta1", "machine"],
        typer.Option(help="What claims are written as; auto takes the newest that the cluster serves."),
    ] = "auto",
    namespace: Annotated[str, typer.Option(help="Watch one namespace only.", show_default=False)] = "",
    runtime_image: Annotated[
        str, typer.Option(help="The image of the pods; default the one of this version.", show_default=False)
    ] = "",
    allow_data_from: Annotated[
        list[str] | None, typer.Option(help="A private network (CIDR) that data URLs may point to; repeatable.")
    ] = None,
    progress_interval: Annotated[float, typer.Option(help="Seconds between two reads of a step's progress.")] = 10.0,
    leader_election: Annotated[bool, typer.Option(help="Let only one of several replicas act.")] = False,
    metrics_port: Annotated[int, typer.Option(help="Where /metrics is served; 0 is nowhere.")] = 0,
    health_port: Annotated[int, typer.Option(help="Where /healthz and /readyz are served; 0 is nowhere.")] = 0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    log_level: LogLevel = "info",
    log_json: LogJson = True,
) -> None:
    """Run the workspace controller."""
    from kaito.workspace.operator import DEFAULT_RUNTIME_IMAGE, OperatorConfig, run_operator

    set_up_logs(log_level, as_json=log_json)
    run_until_signalled(
        lambda: run_operator(
            OperatorConfig(
                kubeconfig=find_kubeconfig(kubeconfig),
                context=context,
                nodes=nodes,
                node_api=node_api,
                namespace=namespace,
                runtime_image=runtime_image or DEFAULT_RUNTIME_IMAGE,
                allow_data_from=tuple(allow_data_from or ()),
                progress_interval=progress_interval,
                leader_election=leader_election,
                metrics_port=metrics_port,
                health_port=health_port,
            )
        )
    )


def provisioner(
    provider: Annotated[Literal["azure", "local", "simulated"], typer.Option(help="Who brings the nodes.")],
    faults: Annotated[
        Path | None, typer.Option(help="A scenario file for the simulated provider.", show_default=False)
    ] = None,
    leader_election: Annotated[bool, typer.Option(help="Let only one of several replicas act.")] = False,
    metrics_port: Annotated[int, typer.Option(help="Where /metrics is served; 0 is nowhere.")] = 0,
    health_port: Annotated[int, typer.Option(help="Where /healthz and /readyz are served; 0 is nowhere.")] = 0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    log_level: LogLevel = "info",
    log_json: LogJson = True,
) -> None:
    """Run the node provisioner: it brings nodes for the claims that Workspaces make."""
    from kaito.nodes.provisioner import ProvisionerConfig, run_provisioner

    set_up_logs(log_level, as_json=log_json)
    run_until_signalled(
        lambda: run_provisioner(
            ProvisionerConfig(
                kubeconfig=find_kubeconfig(kubeconfig),
                context=context,
                provider=provider,
                faults=faults,
                leader_election=leader_election,
                metrics_port=metrics_port,
                health_port=health_port,
            )
        )
    )


def run_until_signalled(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run until the work ends or SIGTERM or SIGINT asks to stop; then cancel it and let it clean up."""

    async def run() -> None:
        task = asyncio.ensure_future(work())
        loop = asyncio.get_running_loop()
        for signal_ in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    try:
        asyncio.run(run())
    except KubeError as error:
        raise CommandError(str(error)) from error
