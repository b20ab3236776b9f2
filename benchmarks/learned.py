"""Weights and gate learned by gradient against weights and gate searched for, on the probes of a sweep's `delta+selected`.

    python benchmarks/learned.py tune_configs/never_worse_office.yaml --runs runs

Trains the probes where RUNS does not have them. The search is that of `delta+selected`; what is learned are
the same settings: temperature, scale and offset of each further space, alpha, tau and beta of the gate, by Adam through the
transfer, the scores and the softmax cross entropy over all items of the validation users of the probes that are searched
on, stopped early by a fifth of their pseudo-cold items. `with metric` also learns a weight for each number of the vectors that
are compared; the last row searches with these weights fixed. Prints one table: on the probes of the search and on those of the
test, cold NDCG@10 at the most exposure that leaves 99.5% of the warm one. No test user and no cold item is looked at.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from coldray.evaluation.ranking import encode_users
from coldray.models.scorers import SASRecScorer
from coldray.settings import load_yaml
from coldray.sweep.config import SELECTING, SweepSettings
from coldray.sweep.grid import make_cells
from coldray.sweep.work import Workspace
from coldray.transfer import Gate, Modality, Probe, ProbeSet, SelectionSettings, Spaces, TransferSettings
from coldray.transfer.judge import Panel
from coldray.transfer.selection import EXPOSURES, Round, Tried, _search

K, EPOCHS, PATIENCE, BATCH, HELD_OUT = 100, 60, 8, 4096, 0.2

GUESS = TransferSettings(k=20, temperature=0.03, gate=None, space="embedding")


@dataclass(frozen=True)
class Task:
    """What a probe's users want, as tensors: their scores of warm items are summed up once."""

    units: list[tuple[Tensor, Tensor]]
    """of each space the vectors of length 1 of the cold and of the warm items"""
    near: list[Tensor]
    """of each space the rows of the warm neighbours [items, K]"""
    content: Tensor
    residuals: Tensor
    queries: Tensor
    """[users, d]"""
    warm: Tensor
    """[users, 2] log of the summed exponentials of all warm items' scores, and the target's score"""
    targets: Tensor
    """[users] row of the cold item; -1: warm"""


@torch.no_grad()
def task_of(probe: Probe, names: Sequence[str]) -> Task:
    """Return a probe as a task, its users without the cold items in their histories."""
    first = probe.num_warm + 1
    table = torch.from_numpy(probe.content + probe.residuals)
    users = probe.users.without_cold(probe.num_warm)
    queries = encode_users(SASRecScorer(probe.encoder, table), users)
    wanted = torch.from_numpy(np.asarray(users.targets).astype(np.int64))
    warm = torch.empty(len(users), 2)
    for rows in torch.arange(len(users)).split(BATCH):
        scores = queries[rows] @ table[1:first].T
        warm[rows, 0] = scores.logsumexp(dim=1)
        warm[rows, 1] = scores.gather(1, (wanted[rows, None] - 1).clamp(max=probe.num_warm - 1))[:, 0]
    spaces = Spaces(probe.spaces, probe.num_warm)
    found = [spaces.neighbors(TransferSettings(k=K, space=name)) for name in names]
    near = [torch.from_numpy(of.ids[:, :K].astype(np.int64)) for of in found]
    units = [F.normalize(torch.from_numpy(probe.spaces[name]), dim=1) for name in names]
    residuals = torch.from_numpy(probe.residuals[1:first])
    targets = torch.where(wanted >= first, wanted - first, -1)
    parts = [(of[first:], of[1:first]) for of in units]
    return Task(parts, near, torch.from_numpy(probe.content[first:]), residuals, queries, warm, targets)


class Learned(nn.Module):
    """The transfer as a function of its settings, and an offset of cold items' scores for each task."""

    def __init__(self, tasks: Sequence[Task], start: TransferSettings, *, metric: bool) -> None:
        super().__init__()
        gate = start.gate or Gate(tau=0.0, beta=20.0)
        self.gated, self.rescale = start.gate is not None, start.rescale
        also = {item.space: item for item in start.also}
        self.also = list(also)
        values = [start.temperature, start.alpha, gate.beta, *(also[name].scale for name in self.also)]
        self.logs = nn.Parameter(torch.tensor([math.log(value) for value in values]))
        self.tau = nn.Parameter(torch.tensor(float(gate.tau)))
        self.offsets = nn.Parameter(torch.tensor([also[name].offset for name in self.also]))
        sizes = [cold.shape[1] for cold, _ in tasks[0].units]
        self.metric = nn.ParameterList(
            [nn.Parameter(torch.zeros(size), requires_grad=metric) for size in sizes]
        )
        self.bias = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, task: Task) -> Tensor:
        """Return the residuals of the cold items, [items, d]."""
        temperature, alpha, beta, *scales = self.logs.exp()
        cosines = []
        for place, ((cold, warm), near, metric) in enumerate(
            zip(task.units, task.near, self.metric, strict=True)
        ):
            weights = metric.exp() if metric.requires_grad else torch.ones_like(metric)
            own, others = (F.normalize(of * weights, dim=1) for of in (cold, warm))
            cosine = torch.einsum("nd,nkd->nk", own, others[near])
            if place:
                cosine = 1 - self.offsets[place - 1].clamp(min=0) - scales[place - 1] * (1 - cosine)
            cosines.append(cosine)
        similar, near = torch.cat(cosines, dim=1), torch.cat(task.near, dim=1)
        lengths = task.residuals.norm(dim=1)[near]
        weights = (similar / temperature).softmax(dim=1)
        mixed = torch.einsum("nk,nkd->nd", weights, task.residuals[near])
        if self.rescale:
            mixed = F.normalize(mixed, dim=1) * (weights * lengths).sum(dim=1, keepdim=True)
        if self.gated:
            mixed = mixed * torch.sigmoid(beta * (similar.max(dim=1).values - self.tau))[:, None]
        return alpha * mixed

    def settings(self, k: int, start: TransferSettings) -> TransferSettings:
        """Return what was learned as settings; without norms and metric they give the same residuals."""
        temperature, alpha, beta, *scales = (float(value) for value in self.logs.detach().exp())
        gate = Gate(tau=float(self.tau.detach()), beta=beta, hard_min_sim=-1.0) if self.gated else None
        offsets = [max(0.0, float(value)) for value in self.offsets]
        also = tuple(
            Modality(space=name, scale=scale, offset=offset)
            for name, scale, offset in zip(self.also, scales, offsets, strict=True)
        )
        changes = {"k": k, "temperature": temperature, "alpha": alpha, "gate": gate, "also": also}
        return start.model_copy(update=changes)


def loss_of(model: Learned, task: Task, number: int, users: Tensor) -> Tensor:
    """Return the cross entropy of each of some users of a task."""
    scores = task.queries[users] @ (task.content + model(task)).T + model.bias[number]
    everything = torch.logaddexp(task.warm[users, 0], scores.logsumexp(dim=1))
    wanted = task.targets[users]
    cold = scores.gather(1, wanted.clamp(min=0)[:, None])[:, 0]
    return everything - torch.where(wanted >= 0, cold, task.warm[users, 1])


def judged(model: Learned, task: Task, number: int, out: Tensor) -> Tensor:
    """Return the loss of users who want a held-out item or a warm one, by their shares."""
    held, rest = (loss_of(model, task, number, torch.nonzero(of)[:, 0]) for of in (out, task.targets < 0))
    share = (task.targets >= 0).float().mean()
    return share * held.mean() + (1 - share) * rest.mean()


def learn(tasks: Sequence[Task], start: TransferSettings, *, metric: bool) -> Learned:
    """Return what is best for users who want one of the held-out pseudo-cold items."""
    torch.manual_seed(0)
    model = Learned(tasks, start, metric=metric)
    groups = [
        {"params": [model.logs, model.tau, model.offsets, *model.metric], "lr": 0.03},
        {"params": [model.bias], "lr": 0.1},
    ]
    optimiser = torch.optim.Adam(groups)
    held = [torch.rand(len(task.content)) < HELD_OUT for task in tasks]
    out = [(t.targets >= 0) & of[t.targets.clamp(min=0)] for t, of in zip(tasks, held, strict=True)]
    best, state, since = math.inf, model.state_dict(), 0
    for _ in range(EPOCHS):
        for number, task in enumerate(tasks):
            users = torch.randperm(len(task.queries))
            for part in users[~out[number][users]].split(BATCH):
                optimiser.zero_grad()
                loss_of(model, task, number, part).mean().backward()
                optimiser.step()
        with torch.no_grad():
            values = [judged(model, task, i, out[i]) for i, task in enumerate(tasks)]
            value = float(sum(values))
        if value < best - 1e-5:
            best, since = value, 0
            state = {name: of.clone() for name, of in model.state_dict().items()}
        elif (since := since + 1) >= PATIENCE:
            break
    model.load_state_dict(state)
    return model


Given = Callable[[Panel], list[np.ndarray | None]]


def measured(panel: Panel, given: Given, loss: float) -> tuple[float, float]:
    """Return the highest cold NDCG@10 where the warm one is that without transfer less `loss`, and its exposure."""
    curves = [judge.gains(of, EXPOSURES) for judge, of in zip(panel.judges, given(panel), strict=True)]
    cold, warm = (np.concatenate([part[kind] for part in curves], axis=1).mean(axis=1) for kind in (0, 1))
    least = panel.gains(None)[1].mean() * (1 - loss)
    values = np.where(warm >= least, cold, -np.inf)
    return float(values.max()), EXPOSURES[int(values.argmax())]


def searched(
    bound: float | None, probes: Sequence[Probe], settings: SelectionSettings
) -> tuple[TransferSettings, float]:
    """Return the best settings that the search of `delta+selected` finds on probes, and the seconds that it takes."""
    stage = Round({bound: Panel(probes, settings.users, settings.seed)})
    started = time.perf_counter()
    tried = _search(stage, settings, None)
    found: Tried = max(tried, key=lambda item: item.best(stage.least(-1.0, settings))[0])
    return found.transfer or TransferSettings(), time.perf_counter() - started


def rows_of(
    part: ProbeSet, settings: SelectionSettings, names: Sequence[str]
) -> Iterator[tuple[str, float, Given]]:
    """Yield name, seconds and residuals of everything that is compared."""

    def given(transfer: TransferSettings, weights: np.ndarray | float = 1.0) -> Given:
        def one(probe: Probe) -> np.ndarray:
            spaces = {**probe.spaces, "embedding": probe.embeddings["embedding"] * weights}
            warm = probe.residuals[1 : probe.num_warm + 1]
            return Spaces(spaces, probe.num_warm).transfer(warm, transfer).residuals

        return lambda panel: [one(judge.probe) for judge in panel.judges]

    yield "none", 0.0, lambda panel: [None] * len(panel.judges)
    yield "the paper's, K = 10", 0.0, given(TransferSettings())
    yield f"a guess: {short(GUESS)}", 0.0, given(GUESS)
    best, seconds = searched(part.max_delta_norm, part.search, settings)
    yield f"searched: {short(best)}", seconds, given(best)
    also = tuple(Modality(space=name) for name in names[1:])
    tasks = [task_of(probe, names) for probe in part.search]
    for rescale, metric in ((False, False), (True, False), (False, True), (True, True)):
        start = TransferSettings(space=names[0], also=also, rescale=rescale)
        started = time.perf_counter()
        model = learn(tasks, start, metric=metric)
        seconds = time.perf_counter() - started
        label = short(model.settings(K, start))
        yield f"learned{' with metric' * metric}: {label}", seconds, given_by(model, names)
    if list(names) != ["embedding"]:
        return
    weights = model.metric[0].detach().exp().numpy()
    probes = [
        replace(probe, embeddings={"embedding": probe.embeddings["embedding"] * weights})
        for probe in part.search
    ]
    best, more = searched(part.max_delta_norm, probes, settings)
    yield f"searched with the learned metric: {short(best)}", seconds + more, given(best, weights)


def given_by(model: Learned, names: Sequence[str]) -> Given:
    """Return what gives the residuals of a model."""

    @torch.no_grad()
    def given(panel: Panel) -> list[np.ndarray | None]:
        return [model(task_of(judge.probe, names)).numpy() for judge in panel.judges]

    return given


def short(made: TransferSettings) -> str:
    """Return settings in a line."""
    gate = (
        "no gate"
        if made.gate is None
        else f"{made.gate.kind[:6]} tau {made.gate.tau:.2f} beta {made.gate.beta:.1f}"
    )
    also = "".join(f" + {item.space} x{item.scale:.2f} -{item.offset:.2f}" for item in made.also)
    return (
        f"{made.space}{also} k {made.k} T {made.temperature:.3f} alpha {made.alpha:.2f} {gate}"
        f"{' rescaled' if made.rescale else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="YAML of a sweep with delta+selected")
    parser.add_argument("--runs", default="runs", help="folder of backbones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--space", action="append", help="where learned neighbours come from; more than one: a mixture"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = load_yaml(args.file, SweepSettings)
    cell = next(cell for cell in make_cells(settings) if cell.method == SELECTING)
    training = Workspace(settings.dataset, args.runs).probes(cell, settings.selection)
    while True:
        try:
            next(training)
        except StopIteration as trained:
            sets, _ = trained.value
            break
    part, loss = sets[0], settings.selection.max_warm_loss
    table = Table("transfer", "seconds", "search", "test", title=settings.dataset)
    sides = [Panel(side, settings.selection.test_users, 0) for side in (part.search, part.test)]
    for name, seconds, given in rows_of(part, settings.selection, args.space or ["embedding"]):
        values = [measured(panel, given, loss) for panel in sides]
        table.add_row(name, f"{seconds:.1f}", *(f"{cold:.5f} (x {times:g})" for cold, times in values))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
