"""What the processes of one training say to each other. With one process, all of it is free."""

from __future__ import annotations

import torch
import torch.distributed as dist


def is_first() -> bool:
    """Whether this is the process that writes files and speaks for all."""
    return not _are_many() or dist.get_rank() == 0


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """Each flag as True when it is so in any process. All processes have to ask."""
    if not _are_many():
        return flags
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    told = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return tuple(bool(one) for one in told.tolist())


def wait_for_all() -> None:
    if _are_many():
        dist.barrier()


def _are_many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
