import pytest

from coldray.errors import UserError
from coldray.sweep.grid import make_cells
from coldray.sweep.questions import make_questions


def ids(settings):
    return {(c.method, c.varied, c.seed): c.cell_id for c in make_cells(settings)}


def test_a_cell_depends_on_what_its_method_reads_and_on_nothing_else(asking_settings):
    methods = ("popularity", "llm", "kalm4rec", "coldrag")
    before = ids(asking_settings(methods=methods))
    after = ids(asking_settings(methods=methods, zeroshot={"keywords": 7}))
    changed = {method for method, _, _ in before if before[method, "", 1] != after[method, "", 1]}
    assert changed == {"kalm4rec"}
    after = ids(asking_settings(methods=methods, zeroshot={"temperature": 0.1}))
    changed = {method for method, _, _ in before if before[method, "", 1] != after[method, "", 1]}
    assert changed == {"llm", "kalm4rec", "coldrag"}


def test_analyses_are_run_once_and_after_the_comparison(asking_settings):
    settings = asking_settings(zeroshot={"analyses": {"hops": (1, 2)}})
    cells = make_cells(settings)
    assert [c.varied for c in cells][-2:] == ["hops=1", "hops=2"]
    assert {c.seed for c in cells if c.varied} == {1}


def test_a_graph_that_is_not_there_is_said_before_anything_starts(asking_settings):
    with pytest.raises(UserError, match="holds no graph"):
        make_questions(asking_settings(zeroshot={"graph": "/nowhere/graph"}))
    assert make_questions(asking_settings(methods=("popularity", "history-average"))) == {}
