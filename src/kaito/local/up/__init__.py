"""One machine, put together: the API server, the workload controllers, the scheduler, the node agent, the service proxy
and the registry in one process, with the suite's two controllers as its children. Starting, detaching, stopping.

Light to import: the parts are imported when they are started.
"""

from collections.abc import Callable

from kaito.local.up.config import Running, UpConfig, describe, status
from kaito.local.up.detach import detach, down
from kaito.local.up.errors import UpError

__all__ = ["Running", "UpConfig", "UpError", "describe", "detach", "down", "run_up", "status"]


async def run_up(config: UpConfig, on_ready: Callable[[Running], None] = lambda _: None) -> None:
    """Run a control plane until SIGTERM or SIGINT, or until one of its parts fails, which raises UpError."""
    from kaito.local.up.run import Machine

    await Machine(config).run(on_ready)
