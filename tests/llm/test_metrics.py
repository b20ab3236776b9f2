from coldray.llm import metrics


def test_tokens_are_counted_by_kind(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(metrics.Counter, "inc", lambda self, value, tags: seen.append((tags["kind"], value)))
    metrics.Tokens().count(12, 5)
    metrics.Tokens().count(3, 0)  # an answer of nothing is no increment, which a counter would refuse
    assert seen == [("read", 12), ("written", 5), ("read", 3)]


def test_without_ray_nothing_is_counted(monkeypatch) -> None:
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: False)
    metrics.Tokens().count(12, 5)
