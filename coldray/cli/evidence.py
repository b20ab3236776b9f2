"""A recommendation in the terminal: the list, and the evidence of each item as a tree."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from coldray.retrieval.result import Edge, Recommendation, RecommendedItem


def show(found: Recommendation, explain: bool) -> None:
    """Print a recommendation; with `explain` as trees, with what each hop did."""
    console, aside = Console(), Console(stderr=True)
    for text in found.unknown:
        aside.print(f"{escape(text)}: the graph knows nothing like it; the rest was used")
    for anchor in found.anchors:
        if anchor.similarity < 1:
            name = escape(anchor.node.name)
            aside.print(f"{escape(anchor.given)}: taken as {name} ({anchor.similarity:.2f} alike)")
    if found.fallback:
        aside.print(escape(found.fallback))
    if explain:
        for rank, item in enumerate(found.items, 1):
            console.print(tree(rank, item))
        _hops(found, aside)
    else:
        console.print(_list(found))


def tree(rank: int, item: RecommendedItem) -> Tree:
    """Return an item and the ways to it, each from the history on."""
    made = Tree(f"[bold]{rank}. {escape(item.title)}[/] ({escape(item.item_id)}, {item.score:.2f})")
    for path in item.paths:
        branch = made.add(f"from [bold]{escape(path[0].source.name)}[/]")
        for edge in path:
            branch = branch.add(_step(edge))
    return made


def _step(edge: Edge) -> str:
    told = f": {escape(edge.description)}" if edge.description else ""
    return f"[dim]{edge.score:4.1f}[/] {escape(edge.target.type)} [bold]{escape(edge.target.name)}[/]{told}"


def _list(found: Recommendation) -> Table:
    table = Table(box=None, header_style="bold")
    for heading, side in (("rank", "right"), ("item", "left"), ("title", "left"), ("score", "right")):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for rank, item in enumerate(found.items, 1):
        table.add_row(str(rank), escape(item.item_id), escape(item.title), f"{item.score:.3f}")
    return table


def _hops(found: Recommendation, console: Console) -> None:
    for hop in found.hops:
        console.print(
            f"hop {hop.hop}: {hop.passed} of {hop.scored} edges from {hop.frontier} entities reached "
            f"{hop.threshold:.2f}; {hop.pool} items found"
        )
    spent = found.spent
    if spent.calls or spent.remembered:
        console.print(
            f"{spent.calls} questions to the model, {spent.prompt_tokens:,} tokens read, "
            f"{spent.completion_tokens:,} written"
        )
    console.print(f"graph version {found.graph_version}; the walk ended: {found.stopped}")
