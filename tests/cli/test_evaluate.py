import pytest
from click.testing import CliRunner

from coldray.cli.main import coldray
from coldray.errors import UserError


def run(*arguments):
    return CliRunner().invoke(coldray, list(arguments), catch_exceptions=False)


def test_a_sweep_over_all_users_is_no_evaluation(tmp_path):
    (tmp_path / "x.yaml").write_text("name: x\ndataset: nowhere\n")
    with pytest.raises(UserError, match="cold_users: is missing"):
        run("evaluate", str(tmp_path / "x.yaml"))


def test_methods_that_ask_need_a_model(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "name: x\ndataset: nowhere\ncold_users: 5\nmethods: [popularity, llm]\nbaseline: best\n"
    )
    with pytest.raises(UserError, match="llm asks a language model"):
        run("evaluate", str(tmp_path / "x.yaml"))
