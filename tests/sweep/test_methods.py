import typing

from coldray.sweep import methods as m


def test_every_group_names_methods_that_there_are():
    known = set(typing.get_args(m.Method))
    groups = (
        m.TRAINED,
        m.TRANSFERRING,
        m.TO_COLD,
        m.CONTENT,
        m.WALKING,
        m.ASKING,
        m.NEEDS_EMBEDDING,
        m.REDUCED,
    )
    assert all(set(group) <= known for group in groups)
    assert set(m.WALKING) < set(m.ASKING)
    assert not set(m.ASKING) & {*m.TRAINED, *m.CONTENT, *m.NEEDS_EMBEDDING}
