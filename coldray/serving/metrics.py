"""What Prometheus is told of recommendations, beside what Serve itself tells of requests (latency, errors, queues)."""

from ray.serve.metrics import Counter, Gauge, Histogram

from coldray.retrieval.result import Recommendation

_MS = [1.0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000]
_POOL = [1.0, 3, 10, 30, 100, 300, 1000]


class Metrics:
    """The metrics of one replica."""

    def __init__(self) -> None:
        self.version = Gauge("coldray_graph_version", "version of the graph that is served")
        self._hop = Histogram("coldray_hop_ms", "time of one hop, milliseconds", _MS, ("hop",))
        self._pool = Histogram("coldray_pool_items", "items that a walk found", _POOL)
        self._fallbacks = Counter(
            "coldray_fallbacks", "answers that are not, or not all, drawn from the walk"
        )
        self._tokens = Counter("coldray_llm_tokens", "tokens of the language model", ("kind",))
        self._hits = Counter("coldray_llm_cache_hits", "answers of the model that were known already")
        self._calls = Counter("coldray_llm_calls", "questions to the model")

    def recommended(self, found: Recommendation) -> None:
        """Count a recommendation."""
        for hop in found.hops:
            self._hop.observe(max(1e-3, 1000 * hop.seconds), {"hop": str(hop.hop)})
        if found.hops:
            self._pool.observe(max(1e-3, found.hops[-1].pool))
        if found.fallback:
            self._fallbacks.inc()
        spent = found.spent
        for counter, count in ((self._hits, spent.remembered), (self._calls, spent.calls)):
            if count:
                counter.inc(count)
        for kind, count in (("read", spent.prompt_tokens), ("written", spent.completion_tokens)):
            if count:
                self._tokens.inc(count, {"kind": kind})
