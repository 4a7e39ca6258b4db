"""`python -m kaito.local.apiserver --home DIR --port 0`: the API alone, until SIGTERM. Prints its URL first."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.server import ApiServer
from kaito.local.store.errors import StoreError


async def run(config: ServerConfig) -> None:
    server = ApiServer(config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await server.start()
    print(server.url, flush=True)
    print(f"export KUBECONFIG={server.kubeconfig}", flush=True)
    await stopped.wait()
    await server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="kaito.local.apiserver", description="The embedded Kubernetes API, alone.")
    parser.add_argument("--home", type=Path, required=True, help="the data folder; made when it is not there")
    parser.add_argument("--port", type=int, default=6443, help="0 picks a free one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(run(ServerConfig(home=arguments.home, port=arguments.port)))
    except (StoreError, OSError) as error:
        print(f"the API server cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
