"""What Prometheus is told of the models that coldray loads, whoever asks them."""

import ray
from ray.util.metrics import Counter


class Tokens:
    """Counts the tokens of one engine: `ray_coldray_engine_tokens_total`, by `kind`, read or written."""

    def __init__(self) -> None:
        self._counter = (
            Counter("coldray_engine_tokens", "tokens of loaded language models", ("kind",))
            if ray.is_initialized()
            else None
        )

    def count(self, read: int, written: int) -> None:
        """Count an answer; without Ray nobody would ask for it."""
        if self._counter is not None:
            for kind, tokens in (("read", read), ("written", written)):
                if tokens:
                    self._counter.inc(tokens, {"kind": kind})
