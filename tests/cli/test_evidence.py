import io

from rich.console import Console

from coldray.cli.evidence import tree
from coldray.retrieval.result import Edge, Node, RecommendedItem


def test_a_tree_goes_from_the_history_to_the_item():
    one, two, three = (Node(id=str(i), type="item" if i != 2 else "genre", name=f"[{i}]") for i in (1, 2, 3))
    path = [
        Edge(source=one, target=two, description="is [red]x[/red]", score=7),
        Edge(source=two, target=three, description="", score=5.25),
    ]
    out = io.StringIO()
    made = tree(1, RecommendedItem(item_id="3", title="[3]", score=1.5, paths=[path]))
    Console(file=out, width=80).print(made)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines == [
        "1. [3] (3, 1.50)",
        "└── from [1]",
        "    └──  7.0 genre [2]: is [red]x[/red]",
        "        └──  5.2 item [3]",
    ]
