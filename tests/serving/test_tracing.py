from opentelemetry.sdk.trace import TracerProvider

from coldray.serving import tracing


def test_spans_go_to_the_address_of_the_environment(collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    provider = TracerProvider()
    for processor in tracing.otlp():
        provider.add_span_processor(processor)
    with provider.get_tracer("test").start_as_current_span("a request"):
        pass
    provider.shutdown()
    assert [name for name, _ in collector.spans] == ["a request"]


def test_serve_finds_the_exporter_by_its_name():
    module, name = tracing.EXPORTER.split(":")
    assert (module, getattr(tracing, name)) == (tracing.__name__, tracing.otlp)
