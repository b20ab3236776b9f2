"""A trial whose worker Ray ends for want of memory has failed; the sweep goes on.

Ray's own Tune (2.60) does not know the exception that stands for it and stops the whole experiment.
"""

from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller

WHY = (
    "its worker was ended, as its node had no memory left; lower training.batch_size or num_negatives, "
    "or raise resources.cpus, so that fewer trials run at once"
)


class ActorManager(RayActorManager):
    """Tune's actors, of which one that was ended for want of memory is a dead one."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=WHY)
        super()._actor_task_failed(tracked_actor_task, exception)


def survive_want_of_memory() -> None:
    """Make the sweeps of this process go on when Ray ends one of their workers for want of memory."""
    setattr(tune_controller, "RayActorManager", ActorManager)  # noqa: B010 - the module does not export it
