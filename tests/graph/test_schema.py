from coldray.graph.schema import ENTITY_MENTIONS, ITEMS, RELATION_MENTIONS, TYPES


def test_every_table_tells_its_item_and_numbers_have_64_bits():
    for schema in (ITEMS, ENTITY_MENTIONS, RELATION_MENTIONS):
        assert schema.names[0] == "item_id"
        assert {str(field.type) for field in schema} <= {"string", "int64"}


def test_the_types_are_those_of_the_paper():
    assert TYPES == ("item", "genre", "setting", "feature", "target user", "etc")
