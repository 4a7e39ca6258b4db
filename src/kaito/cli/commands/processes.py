"""The long-running processes of a cluster: operator and provisioner."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kaito.cli.connection import Connection, find_kubeconfig, given, worded
from kaito.cli.errors import CommandError
from kaito.cli.logs import set_up_logs
from kaito.cli.options import Context, Kubeconfig, LogJson, LogLevel
from kaito.cli.teaching import Command
from kaito.kube.errors import KubeError


def register(app: typer.Typer) -> None:
    app.command(cls=Command)(operator)
    app.command(cls=Command)(provisioner)


def operator(
    nodes: Annotated[
        Literal["gpu-provisioner", "karpenter", "byo"], typer.Option(help="How nodes come.")
    ] = "gpu-provisioner",
    node_api: Annotated[
        Literal["auto", "nodeclaim-v1", "nodeclaim-v1beta1", "machine", "nodepool"],
        typer.Option(
            help="What nodes are asked for by; auto takes the newest claims that the cluster serves, "
            "nodepool is one static pool each Workspace (with --nodes karpenter)."
        ),
    ] = "auto",
    namespace: Annotated[str, typer.Option(help="Watch one namespace only.", show_default=False)] = "",
    runtime_image: Annotated[
        str, typer.Option(help="The image of the pods; default the one of this version.", show_default=False)
    ] = "",
    pull_secret: Annotated[
        list[str] | None,
        typer.Option(help="A Secret, in the Workspaces' namespaces, that opens its registry; repeatable."),
    ] = None,
    weights_storage_class: Annotated[
        str,
        typer.Option(
            help="Fetch weights into volumes of this storage class; default the node's disk.", show_default=False
        ),
    ] = "",
    allow_data_from: Annotated[
        list[str] | None, typer.Option(help="A private network (CIDR) that data URLs may point to; repeatable.")
    ] = None,
    insecure_registry: Annotated[
        list[str] | None,
        typer.Option(help="A registry (host:port) that pods may speak to over plain http; repeatable."),
    ] = None,
    progress_interval: Annotated[float, typer.Option(help="Seconds between two reads of a step's progress.")] = 10.0,
    node_class: Annotated[
        str, typer.Option(help="With --nodes karpenter: group/version/kind/name of the node class.", show_default=False)
    ] = "",
    cloud: Annotated[
        Literal["", "azure", "aws", "gcp"],
        typer.Option(help="With --nodes karpenter: whose default node class; azure.", show_default=False),
    ] = "",
    engine: Annotated[
        Literal["auto", "vllm", "transformers"], typer.Option(help="What serves; a Workspace may say otherwise.")
    ] = "auto",
    node_class_name: Annotated[
        list[str] | None,
        typer.Option(help="A name that kaito.sh/node-class-name may have; repeatable; none given: any."),
    ] = None,
    kube_client_qps: Annotated[
        float, typer.Option(help="Requests a second to the API server; 0: as many as it takes.")
    ] = 0.0,
    kube_client_burst: Annotated[int, typer.Option(help="Requests that may go at once after a rest.")] = 50,
    leader_election: Annotated[bool, typer.Option(help="Let only one of several replicas act.")] = False,
    lease_namespace: Annotated[
        str,
        typer.Option(help="The operator's own namespace: of Lease, webhook certificate and default tuning configs."),
    ] = "kaito-system",
    lease_duration: Annotated[
        float, typer.Option(help="Seconds of silence after which another replica takes over.")
    ] = 12.0,
    webhook_port: Annotated[int, typer.Option(help="Where the admission webhook listens; 0 is nowhere.")] = 0,
    webhook_service: Annotated[
        str, typer.Option(help="The Service in front of the webhook; empty: the API server calls it at localhost.")
    ] = "kaito-operator",
    metrics_port: Annotated[int, typer.Option(help="Where /metrics is served; 0 is nowhere.")] = 0,
    health_port: Annotated[int, typer.Option(help="Where /healthz and /readyz are served; 0 is nowhere.")] = 0,
    host: Annotated[str, typer.Option(help="The address that these ports are on; all.", show_default=False)] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    log_level: LogLevel = "info",
    log_json: LogJson = True,
) -> None:
    """Run the workspace controller."""
    from kaito.workspace.operator import DEFAULT_RUNTIME_IMAGE, OperatorConfig, run_operator

    set_up_logs(log_level, as_json=log_json)
    at = given(Connection(kubeconfig, context))
    run_until_signalled(
        lambda: run_operator(
            OperatorConfig(
                kubeconfig=find_kubeconfig(at.kubeconfig),
                node_class=node_class,
                cloud=cloud,
                engine=engine,
                kube_client_qps=kube_client_qps,
                kube_client_burst=kube_client_burst,
                node_classes=tuple(node_class_name or ()),
                lease_namespace=lease_namespace,
                lease_duration=lease_duration,
                webhook_port=webhook_port,
                webhook_service=webhook_service,
                host=host,
                context=at.context,
                nodes=nodes,
                node_api=node_api,
                namespace=namespace,
                runtime_image=runtime_image or DEFAULT_RUNTIME_IMAGE,
                pull_secrets=tuple(pull_secret or ()),
                weights_storage_class=weights_storage_class,
                allow_data_from=tuple(allow_data_from or ()),
                insecure_registries=tuple(insecure_registry or ()),
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
    launch_deadline: Annotated[float, typer.Option(help="Minutes that a machine may take to be there.")] = 30.0,
    registration_deadline: Annotated[float, typer.Option(help="Minutes that its node may take to join.")] = 15.0,
    unhealthy_after: Annotated[float, typer.Option(help="Minutes not ready after which a node is replaced.")] = 10.0,
    delete_after_deadline: Annotated[
        bool, typer.Option(help="Delete a claim that missed a deadline; else it stays and says so.")
    ] = True,
    delete_without_capacity: Annotated[
        bool, typer.Option(help="Delete a claim that the cloud has no capacity for; else it is tried again.")
    ] = False,
    repair: Annotated[bool, typer.Option(help="Replace nodes that stay not ready.")] = True,
    leader_election: Annotated[bool, typer.Option(help="Let only one of several replicas act.")] = False,
    lease_namespace: Annotated[str, typer.Option(help="The namespace of the Lease.")] = "kaito-system",
    metrics_port: Annotated[int, typer.Option(help="Where /metrics is served; 0 is nowhere.")] = 0,
    health_port: Annotated[int, typer.Option(help="Where /healthz and /readyz are served; 0 is nowhere.")] = 0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    log_level: LogLevel = "info",
    log_json: LogJson = True,
) -> None:
    """Run the node provisioner: it brings nodes for the claims that Workspaces make."""
    from kaito.nodes.errors import ProviderError
    from kaito.nodes.provisioner import ProvisionerConfig, run_provisioner

    set_up_logs(log_level, as_json=log_json)
    at = given(Connection(kubeconfig, context))
    config = ProvisionerConfig(
        kubeconfig=find_kubeconfig(at.kubeconfig),
        context=at.context,
        provider=provider,
        faults=faults,
        launch_deadline=timedelta(minutes=launch_deadline),
        registration_deadline=timedelta(minutes=registration_deadline),
        unhealthy_after=timedelta(minutes=unhealthy_after),
        delete_after_deadline=delete_after_deadline,
        delete_without_capacity=delete_without_capacity,
        repair=repair,
        leader_election=leader_election,
        lease_namespace=lease_namespace,
        metrics_port=metrics_port,
        health_port=health_port,
    )
    try:
        run_until_signalled(lambda: run_provisioner(config))
    except ProviderError as error:
        raise CommandError(error.message, error.hint) from error


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
        raise worded(error) from error
