"""Crash after every effect: plan and act against a world in memory, lose all memory, observe and plan again.

Whatever the moment, the claim becomes ready or goes away as if nothing had happened, and no instance is made twice.
"""

from __future__ import annotations

import itertools

import pytest

from kaito.nodes.codecs import ALL, Codec
from kaito.nodes.errors import InsufficientCapacity
from tests.nodes.fake_world import FakeWorld

PATIENCE = 200
"""Turns; a calm life takes less than 20."""

EACH_KIND = pytest.mark.parametrize("codec", ALL, ids=[f"{c.kind}-{c.resource.version}" for c in ALL])


def until_ready(world: FakeWorld) -> None:
    for _ in range(PATIENCE):
        if world.is_true("Ready"):
            return
        world.turn()
    raise AssertionError(f"not ready after {PATIENCE} turns: {world.claim}")


def until_gone(world: FakeWorld) -> None:
    for _ in range(PATIENCE):
        if world.is_empty:
            return
        world.turn()
    raise AssertionError(f"not gone after {PATIENCE} turns: {world.claim} {world.cloud} {world.node} {world.pods}")


def whole_life(world: FakeWorld) -> tuple[int, int]:
    """Ready, serving a pod, deleted, gone; gives the effects that each half took."""
    until_ready(world)
    ready_after = world.effects
    for _ in range(3):
        world.turn()
    assert world.calls["create"] == 1
    assert world.pods, "a ready node got no pod"
    world.delete_claim()
    until_gone(world)
    return ready_after, world.effects


def calm_life(codec: Codec) -> tuple[int, int]:
    return whole_life(FakeWorld(codec))


@EACH_KIND
def test_a_calm_life_takes_few_effects(codec: Codec) -> None:
    ready, gone = calm_life(codec)
    assert ready <= 8 and gone - ready <= 9, (ready, gone)


@EACH_KIND
def test_a_crash_after_any_one_effect(codec: Codec) -> None:
    _, total = calm_life(codec)
    for moment in range(1, total + 1):
        world = FakeWorld(codec, {moment})
        whole_life(world)
        assert world.calls["create"] == 1 and world.calls["delete"] <= 2, moment


@EACH_KIND
def test_a_crash_after_any_two_effects(codec: Codec) -> None:
    _, total = calm_life(codec)
    for moments in itertools.combinations(range(1, total + 3), 2):
        world = FakeWorld(codec, set(moments))
        whole_life(world)
        assert world.calls["create"] == 1, moments


@EACH_KIND
def test_a_process_that_dies_after_its_every_effect_still_gets_there(codec: Codec) -> None:
    world = FakeWorld(codec)
    world.crash_always = True
    whole_life(world)
    assert world.calls["create"] == 1


@EACH_KIND
def test_deletion_at_any_moment_with_a_crash_after_any_effect(codec: Codec) -> None:
    _, total = calm_life(codec)
    for deleted_at, crash in itertools.product(range(20), range(1, total + 1)):
        world = FakeWorld(codec, {crash})
        for _ in range(deleted_at):
            world.turn()
        world.delete_claim()
        until_gone(world)
        assert world.calls["create"] <= 1, (deleted_at, crash)


@EACH_KIND
def test_an_instance_that_fails_late_is_replaced_whatever_crashes(codec: Codec) -> None:
    """The failed one is cleared away and one more is made: two creates, never two instances at once."""
    _, total = calm_life(codec)
    for crash in range(1, total + 4):
        world = FakeWorld(codec, {crash})
        world.fails_late = InsufficientCapacity("no machine is free", retry_after=10.0)
        whole_life_after_failure(world)
        assert world.calls["create"] == 2, crash


def whole_life_after_failure(world: FakeWorld) -> None:
    until_ready(world)
    world.delete_claim()
    until_gone(world)
