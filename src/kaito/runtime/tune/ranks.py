"""What the processes of one training say to each other. With one process, all of it is free."""

from __future__ import annotations

import torch
import torch.distributed as dist


def join(world_size: int, *, is_cuda: bool) -> None:
    """Meet the other processes, if there are any. Returns when all are there: what the first one did before is done."""
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if is_cuda else "gloo")
        wait_for_all()


def is_first() -> bool:
    """Whether this is the process that writes files and speaks for all."""
    return not _are_many() or dist.get_rank() == 0


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """Each flag as True when it is so in any process. All processes have to ask."""
    if not _are_many():
        return flags
    told = torch.tensor(flags, dtype=torch.int32, device=_device())
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return tuple(bool(one) for one in told.tolist())


def least(value: int) -> int:
    """The smallest `value` of all processes. All have to ask."""
    if not _are_many():
        return value
    told = torch.tensor(value, device=_device())
    dist.all_reduce(told, op=dist.ReduceOp.MIN)
    return int(told)


def wait_for_all() -> None:
    if _are_many():
        dist.barrier()


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _are_many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
