"""The order of a sweep's trials: one that trains a backbone before those that use it."""

from typing import Any, Literal

from ray.tune.search import Searcher

from coldray.sweep.grid import Cell
from coldray.sweep.trial import FAILURE


class CellSearch(Searcher):
    """Suggests cells to Ray Tune: a cell waits while another one makes the backbone or the choice that it needs."""

    def __init__(self, cells: list[Cell], share_backbones: bool) -> None:
        """Take the cells that are still to be run, in order."""
        super().__init__()
        self.waiting = list(cells)
        self.share_backbones = share_backbones
        self.running: dict[str, Cell] = {}
        self.shared: dict[str, Literal["in training", "trained", "broken"]] = {}
        """how what cells share stands, by its id"""

    def suggest(self, trial_id: str) -> Any:
        """Return {"cell": the next cell} as a trial's config, or None while all wait, FINISHED when there are no more."""
        self.waiting = [cell for cell in self.waiting if self.state(cell) != "broken"]
        if not self.waiting:
            return Searcher.FINISHED
        cell = next((cell for cell in self.waiting if self.state(cell) != "in training"), None)
        if cell is None:
            return None
        self.waiting.remove(cell)
        self.running[trial_id] = cell
        if self.share_backbones:
            for shared in cell.shared_ids:
                self.shared.setdefault(shared, "in training")
        return {"cell": cell}

    def state(self, cell: Cell) -> str | None:
        """Return how what a cell needs stands: broken, in training, trained, or None."""
        states = {self.shared.get(shared) for shared in cell.shared_ids}
        return next((state for state in ("broken", "in training", "trained") if state in states), None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Let the cells go that waited for this one; if it failed to train, those can never run."""
        cell = self.running.pop(trial_id, None)
        failed = error or FAILURE in (result or {})
        for shared in () if cell is None else cell.shared_ids:
            if self.shared.get(shared) == "in training":
                self.shared[shared] = "broken" if failed else "trained"

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: what is left to be done is known from the results."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing; see `save`."""
