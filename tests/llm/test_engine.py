import math

import pytest

from coldray.errors import UserError
from coldray.llm.engine import RefusedError, Request, check_one_kind, expectation


def test_the_expectation_of_a_scale_is_over_its_words_alone():
    logs = [math.log(0.1), math.log(0.3)]
    assert expectation(logs) == pytest.approx(0.75)
    assert expectation([-math.inf, -3.0]) == 1.0


def test_a_scale_that_has_no_probability_is_refused():
    with pytest.raises(RefusedError, match="no answer of the scale"):
        expectation([-math.inf, -math.inf])


def test_two_kinds_of_answers_are_an_error():
    check_one_kind(Request("p", "", "", schema="{}"))
    with pytest.raises(UserError, match="two kinds"):
        check_one_kind(Request("p", "", "", schema="{}", choices=("a",)))
