import errno

from coldray.errors import ServiceError, UserError, mendable


def test_exit_codes() -> None:
    assert UserError.exit_code == 2
    assert ServiceError.exit_code == 3
    assert issubclass(ServiceError, UserError)


def test_what_of_the_system_a_person_can_mend_is_one_line_with_the_fix() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "x.tmp")
    fix = "No space left on device; free some space, then run the same again"
    assert str(mendable(full)) == f"x.tmp: {fix}"
    assert str(mendable(full, "runs/x")) == f"runs/x: {fix}"
    assert "\n" not in str(mendable(PermissionError(errno.EACCES, "Failed to open\n'runs'")))
    assert mendable(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert mendable(OSError("something")) is None


def test_an_error_without_a_number_is_told_by_what_its_text_says() -> None:
    rust = OSError("LanceError(IO): No space left on device (os error 28), /src/writer.rs:254:9")
    assert (
        str(mendable(rust, "graph"))
        == "graph: No space left on device; free some space, then run the same again"
    )
    assert mendable(OSError("x (os error 9999)")) is None
