import pytest

from coldray.errors import UserError
from coldray.graph.store.tables import (
    INDEXES,
    Manifest,
    manifests,
    open_table,
    read_manifest,
    schemas,
    write_manifest,
)


def test_manifests_come_back_and_are_counted(tmp_path):
    uri = str(tmp_path)
    assert manifests(uri) == []
    for version in (1, 2, 10):
        write_manifest(uri, Manifest(version, {"items": version}, {"items": 3}, 8))
    assert manifests(uri) == [1, 2, 10]
    assert read_manifest(uri).version == 10
    assert read_manifest(uri, 2).tables == {"items": 2}


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no graph; make one with: coldray graph build"):
        read_manifest(str(tmp_path))
    write_manifest(str(tmp_path), Manifest(1, {}, {}, 8))
    with pytest.raises(UserError, match="has no version 7; its versions are 1"):
        read_manifest(str(tmp_path), 7)
    with pytest.raises(UserError, match="table items cannot be read at version 1"):
        open_table(str(tmp_path), "items", 1)
    (tmp_path / "manifests" / "00000001.json").write_text('{"version": 1, "wrong": 2}')
    with pytest.raises(UserError, match="another version of coldray"):
        read_manifest(str(tmp_path))


def test_keys_are_marked_and_what_is_looked_up_is_a_column():
    for name, schema in schemas(4).items():
        assert set(INDEXES[name]) <= set(schema.names)
    key = schemas(4)["entities"].field("id")
    assert key.metadata == {b"lance-schema:unenforced-primary-key": b"true"}
