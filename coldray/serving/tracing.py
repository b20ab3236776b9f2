"""Traces of requests, over all deployments, to an OpenTelemetry collector: what Serve's `tracing_config` names."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

EXPORTER = "coldray.serving.tracing:otlp"


def otlp() -> list[SpanProcessor]:
    """Return what sends spans to the address in OTEL_EXPORTER_OTLP_ENDPOINT. Called by Serve in each process."""
    return [BatchSpanProcessor(OTLPSpanExporter())]
