import errno
import subprocess
import sys
from unittest.mock import Mock

import click
import pytest

from coldray.cli import main
from coldray.errors import ServiceError, UserError


def leave(monkeypatch, capsys, error: BaseException) -> tuple[int, str]:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.coldray, "main", lambda standalone_mode: fail())
    with pytest.raises(SystemExit) as exit_:
        main.main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("x.csv: row 3: no user_id"), 2, "coldray: x.csv: row 3: no user_id\n"),
        (ServiceError("no server"), 3, "coldray: no server\n"),
        (click.UsageError("no such option"), 2, "Error: no such option\n"),
        (KeyboardInterrupt(), 130, "coldray: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            2,
            "coldray: runs/x: No space left on device; free some space, then run the same again\n",
        ),
        (
            PermissionError(errno.EACCES, "Failed to open\n'runs'"),
            2,
            "coldray: [Errno 13] Failed to open 'runs'; name another place, or give yourself the right to this one\n",
        ),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_a_code(monkeypatch, capsys, error, code, said) -> None:
    assert leave(monkeypatch, capsys, error) == (code, said)


def test_a_bug_shows_its_trace(monkeypatch) -> None:
    for bug in (RuntimeError("a bug"), OSError("a bug"), OSError(errno.EBADF, "a bug")):
        monkeypatch.setattr(main.coldray, "main", Mock(side_effect=bug))
        with pytest.raises(type(bug), match="a bug"):
            main.main()


def test_every_command_is_there_and_an_unknown_one_is_refused(monkeypatch, capsys) -> None:
    for name in main.COMMANDS:
        command = main.coldray.get_command(click.Context(main.coldray), name)
        assert command is not None
        assert command.help
    monkeypatch.setattr(sys, "argv", ["coldray", "recomend"])
    with pytest.raises(SystemExit):
        main.main()
    assert "recomend" in capsys.readouterr().err


def test_starting_another_program_warns_of_nothing() -> None:
    program = (
        "import os\n"
        "from coldray.cli.main import coldray\n"
        "coldray.main(['llm', '--help'], standalone_mode=False)\n"
        "import lance\n"
        "if os.fork() == 0:\n"
        "    os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
