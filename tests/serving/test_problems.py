import copy

from coldray.serving.problems import FieldError, ProblemError, documented, respond


def test_a_problem_travels_between_processes():
    kind, values = ProblemError(422, "no", [FieldError(field="k", message="bad")], retry=2).__reduce__()
    made = copy.copy(kind(*values))
    assert (made.problem.status, made.problem.errors[0].field) == (422, "k")
    assert made.headers == {"Retry-After": "2"}
    assert str(made) == "no"


def test_it_is_a_document_of_the_standard():
    made = respond(ProblemError(401, "token?").problem)
    assert made.media_type == "application/problem+json"
    assert b'"title":"A token is needed"' in made.body


def test_routes_tell_of_their_problems():
    assert set(documented(401, 404)) == {401, 404}
