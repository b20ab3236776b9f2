"""The order of a sweep's trials: one that trains a backbone before those that use it."""

from typing import Any, Literal

from ray.tune.search import Searcher

from coldray.sweep.grid import Cell
from coldray.sweep.trial import FAILURE


class CellSearch(Searcher):
    """Suggests cells to Ray Tune: a cell waits while another one trains the backbone that it needs."""

    def __init__(self, cells: list[Cell], share_backbones: bool) -> None:
        """Take the cells that are still to be run, in order."""
        super().__init__()
        self.waiting = list(cells)
        self.share_backbones = share_backbones
        self.running: dict[str, Cell] = {}
        self.backbones: dict[str, Literal["in training", "trained", "broken"]] = {}

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
        if self.share_backbones and cell.backbone_id is not None:
            self.backbones.setdefault(cell.backbone_id, "in training")
        return {"cell": cell}

    def state(self, cell: Cell) -> str | None:
        """Return how the training of a cell's backbone stands: in training, trained, broken, or None."""
        return self.backbones.get(cell.backbone_id or "")

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Let the cells go that waited for this one; if it failed to train, those can never run."""
        cell = self.running.pop(trial_id, None)
        if cell is not None and cell.backbone_id is not None and self.state(cell) == "in training":
            failed = error or FAILURE in (result or {})
            self.backbones[cell.backbone_id] = "broken" if failed else "trained"

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: what is left to be done is known from the results."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing; see `save`."""
