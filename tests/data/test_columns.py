from coldray.data import columns


def test_names_are_distinct() -> None:
    names = [value for name, value in vars(columns).items() if name.isupper()]
    assert len(names) == len(set(names)) > 5
