import pytest

from coldray.errors import UserError
from coldray.settings import Settings, digest, load_yaml


class Inner(Settings):
    rate: float = 0.5


class Outer(Settings):
    name: str
    inner: Inner = Inner()


def test_a_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest(Inner()) == digest({"rate": 0.5})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nnmae: y", "nmae: no such key"),
        ("name: x\ninner: {rate: fast}", "inner.rate"),
        ("inner: {}", "name: Field required"),
        ("a: [", "is not YAML"),
        ("- 1", "(top level)"),
    ],
)
def test_a_faulty_file_is_told_in_one_line_that_names_the_key(tmp_path, text, said) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_yaml(path, Outer)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_yaml("/nowhere/file.yaml", Outer)


def test_a_file_that_is_not_utf8_is_told(tmp_path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(UserError, match=r"file\.yaml: is not UTF-8 .* save it as UTF-8"):
        load_yaml(path, Outer)
