"""An agent in a process of its own, to be killed: `python -m tests.local.agent.agent_main KUBECONFIG HOME`."""

import asyncio
import sys
from pathlib import Path

from kaito.kube.client import Client
from kaito.local.agent import AgentConfig, NodeAgent
from tests.local.agent.bench import NODE, PROGRAMS


async def main(kubeconfig: Path, home: Path) -> None:
    async with Client.connect(kubeconfig) as client:
        await NodeAgent(client, AgentConfig(home=home, node_name=NODE, programs=PROGRAMS, first_backoff=0.1)).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
