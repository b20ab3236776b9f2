from coldray.errors import ServiceError, UserError


def test_exit_codes() -> None:
    assert UserError.exit_code == 2
    assert ServiceError.exit_code == 3
    assert issubclass(ServiceError, UserError)
