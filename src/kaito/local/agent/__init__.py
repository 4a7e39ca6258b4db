"""The node agent: kubelet for every Node of this machine. Containers are processes under a supervisor each (`shim`),
which outlive the agent; whatever the agent must know again after its death is in `$KAITO_HOME/pods/<uid>/`.
"""

from kaito.local.agent.agent import NodeAgent
from kaito.local.agent.config import AgentConfig

__all__ = ["AgentConfig", "NodeAgent"]
