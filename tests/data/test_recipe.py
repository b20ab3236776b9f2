import pytest
from pydantic import ValidationError

from coldray.data.recipe import Recipe


@pytest.mark.parametrize(
    ("format_", "min_rating", "drops", "threshold"),
    [
        ("amazon2014", 3.0, False, 3.0),
        ("movielens", 3.0, False, 3.0),
        ("table", None, False, None),
        ("amazon_m2", None, True, None),
        ("zvuk", None, True, 60.0),
    ],
)
def test_defaults_follow_the_format(format_, min_rating, drops, threshold) -> None:
    recipe = Recipe(format=format_)
    assert (recipe.min_rating, recipe.drop_consecutive_duplicates) == (min_rating, drops)
    assert recipe.threshold == threshold
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_what_is_said_goes_before_defaults() -> None:
    assert Recipe(format="recbole", min_rating=None).threshold is None
    assert not Recipe(format="zvuk", drop_consecutive_duplicates=False).drop_consecutive_duplicates
    with pytest.raises(ValidationError):
        Recipe(format="table", kcore=3)
