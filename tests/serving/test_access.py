import os
import stat

import pytest

from coldray.errors import UserError
from coldray.serving.access import Gate, Token, add_token, hash_of, read_tokens, tokens_of


def test_a_token_is_kept_as_a_hash_that_only_its_owner_can_read(tmp_path):
    path = str(tmp_path / "deep" / "tokens.yaml")
    one, other = add_token(path, "shop", "read"), add_token(path, "feed", "write")
    text = (tmp_path / "deep" / "tokens.yaml").read_text()
    assert one not in text
    assert other not in text
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [(token.name, token.role) for token in read_tokens(path)] == [("shop", "read"), ("feed", "write")]
    assert len(one) > 40
    assert sorted(os.listdir(tmp_path / "deep")) == ["tokens.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {name: a, role: admin, sha256: " + "0" * 64 + "}", "role"),
        ("- {name: a, role: read}", "sha256"),
        ("- just text", "tokens"),
        ("3", "no file of tokens"),
        ("{", "no file of tokens"),
    ],
)
def test_a_file_that_is_none_is_refused_without_its_content(tmp_path, text, message):
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UserError, match=message):
        read_tokens(str(path))


def test_a_file_that_others_may_read_is_refused(tmp_path):
    path = str(tmp_path / "tokens.yaml")
    add_token(path, "a", "read")
    os.chmod(path, 0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_tokens(path)
    with pytest.raises(UserError, match="No such file"):
        read_tokens(str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["a", "../a", "", "a b", "a" * 65])
def test_names_are_plain_and_given_once(tmp_path, name):
    path = str(tmp_path / "tokens.yaml")
    add_token(path, "a", "read")
    with pytest.raises(UserError, match="name"):
        add_token(path, name, "read")


def test_tokens_come_from_variables_too():
    made = tokens_of({"COLDRAY_READ_TOKENS": "r" * 32 + "," + "s" * 40, "COLDRAY_WRITE_TOKENS": "w" * 32})
    assert [token.role for token in made] == ["read", "read", "write"]
    assert made[2].sha256 == hash_of("w" * 32)
    assert tokens_of({}) == []
    with pytest.raises(UserError, match="at least 32") as raised:
        tokens_of({"COLDRAY_READ_TOKENS": "hunter2"})
    assert "hunter2" not in str(raised.value)


@pytest.fixture
def gate():
    tokens = [
        Token(name="a", role="read", sha256=hash_of("secret-a")),
        Token(name="b", role="write", sha256=hash_of("b")),
    ]
    return Gate(tokens, rate=10, burst=3)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bearer secret-a", "a"),
        ("bearer b", "b"),
        ("Bearer  secret-a ", "a"),
        ("Basic secret-a", None),
        ("Bearer secret-b", None),
        ("Bearer", None),
        ("", None),
        (None, None),
        ("Bearer sécret", None),
    ],
)
def test_who_asks(gate, header, name):
    found = gate.who(header)
    assert (found.name if found else None) == name


def test_a_token_may_ask_so_many_times_and_then_has_to_wait(gate):
    assert [gate.wait("a") for _ in range(3)] == [0, 0, 0]
    assert 0 < gate.wait("a") <= 0.1
    assert gate.wait("b") == 0
