"""What Tune is told of a worker that was ended for want of memory; `tests/chaos/test_memory.py` has a real one."""

from types import SimpleNamespace

import pytest
from ray.air.execution import PlacementGroupResourceManager
from ray.exceptions import OutOfMemoryError
from ray.tune.execution import tune_controller

from coldray.sweep.memory import WHY, ActorManager, survive_want_of_memory


def test_want_of_memory_is_the_death_of_one_actor(monkeypatch) -> None:
    manager, told = ActorManager(PlacementGroupResourceManager()), []
    monkeypatch.setattr(manager, "_cleanup_actor", lambda tracked_actor: None)
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.append(str(error)))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    manager._actor_task_failed(task, OutOfMemoryError("pages of text"))
    assert told == [WHY]
    with pytest.raises(RuntimeError, match="unexpected"):
        manager._actor_task_failed(task, ValueError("something else"))


def test_sweeps_use_it(monkeypatch) -> None:
    monkeypatch.setattr(tune_controller, "RayActorManager", None)
    survive_want_of_memory()
    assert tune_controller.RayActorManager is ActorManager
