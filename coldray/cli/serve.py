"""`coldray serve`: recommendations over HTTP."""

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from coldray.errors import ServiceError, UserError

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

CONFIG = click.argument("config", metavar="FILE")
DASHBOARD = click.option(
    "--address",
    default="http://127.0.0.1:8265",
    show_default=True,
    envvar="RAY_DASHBOARD_ADDRESS",
    help="Of the cluster's dashboard.",
)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SERVICE = "coldray.serving.app:build"


@click.group()
def serve() -> None:
    """Serve recommendations over HTTP, from FILE: a configuration of Ray Serve, as those in serve/."""
    # Less of each request's time for Serve itself, but without ports of the replicas' own; read when Serve is imported.
    os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
    os.environ.setdefault("RAY_SERVE_ENABLE_DIRECT_INGRESS", "0")


@serve.command()
@CONFIG
@click.option(
    "--address", envvar="RAY_ADDRESS", help="Ray cluster.  [default: Ray on this machine, until Ctrl-C]"
)
def up(config: str, address: str | None) -> None:
    """Run what FILE describes here and now, until Ctrl-C.

    A file of tokens that is not there yet is made, with one token of the role write, which is shown once.
    """
    import logging

    import ray
    from ray import serve as ray_serve

    from coldray.data.prepare import start_ray
    from coldray.serving.tracing import EXPORTER

    schema = read_config(config)
    token = _first_token(schema)
    click.echo("starting Ray and Serve", err=True)
    start_ray(address, dashboard=True)
    http = schema.http_options
    tracing = {"enabled": True, "exporter_import_path": EXPORTER, "sampling_ratio": 1.0}
    ray_serve.start(
        proxy_location=str(schema.proxy_location.value),
        http_options={"host": http.host, "port": http.port},
        tracing_config=tracing if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else None,
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    began = time.monotonic()
    for application in schema.applications:
        click.echo(f"starting {application.name}", err=True)
        _run(application)
    click.echo(f"up after {time.monotonic() - began:.0f} s; stop it with Ctrl-C", err=True)
    for application in schema.applications:
        if application.import_path == _SERVICE:
            url = f"http://{http.host}:{http.port}{application.route_prefix or '/'}".rstrip("/")
            _say_how(url, token, bool(application.args.get("access", {}).get("open")))
    for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell had it ignored
        signal.signal(number, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        for application in schema.applications if address else ():
            ray_serve.delete(application.name)
        ray.shutdown()  # a Ray of our own ends with all that runs on it


@serve.command()
@CONFIG
@DASHBOARD
def deploy(config: str, address: str) -> None:
    """Send what FILE describes to a running cluster, and wait until it is up. The same as Ray's own `serve deploy`."""
    schema = read_config(config)
    client = _client(address)
    client.deploy_applications(schema.model_dump(mode="json", exclude_unset=True))
    said = ""
    while True:
        details = client.get_serve_details()["applications"]
        states = {name: details.get(name, {}).get("status", "WAITING") for name in _names(schema)}
        line = ", ".join(f"{name}: {state.lower()}" for name, state in states.items())
        if line != said:
            click.echo(line, err=True)
        said = line
        if all(state == "RUNNING" for state in states.values()):
            return
        for name, state in states.items():
            if state in ("DEPLOY_FAILED", "UNHEALTHY"):
                reason = " ".join(details[name].get("message", "").split())
                raise UserError(f"{name}: {state.lower()} ({reason[-600:]})")
        time.sleep(1)


@serve.command()
@DASHBOARD
@click.option("--json", "as_json", is_flag=True, help="Print all that Serve knows, as JSON.")
def status(address: str, as_json: bool) -> None:
    """Say how the applications of a cluster stand."""
    details = _client(address).get_serve_details()
    if as_json:
        click.echo(json.dumps(details))
        return
    for name, application in details["applications"].items():
        click.echo(
            f"{name}: {application['status'].lower()} {' '.join(application['message'].split())}".rstrip()
        )
        for deployment, there in application["deployments"].items():
            states = [replica["state"].lower() for replica in there["replicas"]]
            count = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
            click.echo(f"  {deployment}: {there['status'].lower()}, {count or 'no replicas'}")
    if not details["applications"]:
        click.echo("no application is deployed", err=True)


@serve.command()
@click.argument("file")
@click.option("--name", required=True, help="Of the token, to find it in the file again.")
@click.option("--role", type=click.Choice(["read", "write"]), default="read", show_default=True)
def token(file: str, name: str, role: Any) -> None:
    """Make a token, print it once, and add its hash to FILE, which a configuration names as access.tokens."""
    from coldray.serving.access import add_token

    click.echo(add_token(file, name, role))
    click.echo(
        f"{file}: has the token {name} with the role {role}; the token itself is kept nowhere", err=True
    )


def read_config(path: str) -> "ServeDeploySchema":
    """Return a Serve configuration, on loopback where it does not say otherwise.

    Raises UserError for one that is none, and for a service that is open to more than this machine.
    """
    import yaml
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    from coldray.serving.settings import ServiceSettings
    from coldray.settings import explain

    try:
        with open(path, encoding="utf-8") as stream:
            given = yaml.safe_load(stream) or {}
        given.setdefault("http_options", {}).setdefault("host", "127.0.0.1")
        schema = ServeDeploySchema.model_validate(given)
        for application in schema.applications:
            if application.import_path == _SERVICE:
                service = ServiceSettings.model_validate(application.args)
                if service.access.open and schema.http_options.host not in _LOOPBACK:
                    raise UserError(
                        f"{path}: access.open is for http_options.host 127.0.0.1 alone; make tokens"
                    )
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a file such as serve/coldrag.yaml"
        ) from error
    except (yaml.YAMLError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: is no configuration of Serve ({' '.join(str(error).split()):.200})"
        ) from error
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from error
    return schema


def _names(schema: "ServeDeploySchema") -> list[str]:
    return [application.name for application in schema.applications]


def _run(application: Any) -> None:
    """Run one application of a configuration on the Serve that this process has started."""
    from ray import serve as ray_serve
    from ray._common.utils import import_attr

    if not application.import_path.startswith("coldray."):
        raise UserError(f"{application.name}: {application.import_path} is not ours; run it with: serve run")
    if application.deployments:
        raise UserError(f"{application.name}: deployments are for a cluster; use coldray serve deploy")
    built = import_attr(application.import_path)(application.args)
    try:
        ray_serve.run(built, name=application.name, route_prefix=application.route_prefix)
    except RuntimeError as error:
        raise ServiceError(
            f"{application.name}: does not come up ({_why(application.name, str(error))})"
        ) from error


def _why(application: str, otherwise: str) -> str:
    """Return why an application failed: the error of the first of its deployments that has one."""
    from ray import serve as ray_serve

    found = ray_serve.status().applications.get(application)
    messages = [deployment.message for deployment in found.deployments.values()] if found else []
    lines = "\n".join(messages).splitlines()
    errors = [line for line in lines if re.match(r"^[\w.]*(Error|Exception)\b: ", line)]
    if errors:
        return errors[-1].removeprefix("coldray.errors.")[-600:]
    return " ".join(otherwise.split())[-600:]


def _first_token(schema: "ServeDeploySchema") -> str | None:
    """Make the file of tokens that a service names where there is none, and return its token."""
    from coldray.serving.access import add_token
    from coldray.serving.settings import ServiceSettings

    for application in schema.applications:
        if application.import_path == _SERVICE:
            file = ServiceSettings.model_validate(application.args).access.tokens
            if file is not None and not os.path.exists(file):
                return add_token(file, "first", "write")
    return None


def _say_how(url: str, token: str | None, is_open: bool) -> None:
    """Print the page's address and a line that asks for recommendations."""
    who = "" if is_open else f"-H 'Authorization: Bearer {token or '$TOKEN'}' "
    click.echo(f"page:  {url}/" + (f"#token={token}" if token else ""))
    click.echo(
        f"try:   curl -s {url}/v1/recommend {who}-H 'Content-Type: application/json' "
        """-d '{"history": ["1"], "k": 3}'"""
    )
    if not is_open and token is None:
        click.echo(
            "$TOKEN is one of those in access.tokens; make another with: coldray serve token", err=True
        )


def _client(address: str) -> Any:
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    try:
        return ServeSubmissionClient(address)
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ServiceError(
            f"{address}: no Ray dashboard answers there ({reason:.200}); correct --address"
        ) from error
