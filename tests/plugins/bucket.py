"""An S3-compatible server (moto's) that answers a share of the requests with an error, as a busy store does.

python -m tests.plugins.bucket HOST PORT SHARE LOG
"""

import random
import sys

BUCKET = "coldray"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
"""in the environment of what asks; moto takes any"""
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def main(host: str, port: int, share: float, log: str) -> None:
    """Serve until the process is ended; a line of LOG is `0` for a request that was answered and `1` for one that was not."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application, chance = DomainDispatcherApplication(create_backend_app), random.Random(1)  # noqa: S311 - no secret
    counted = open(log, "a", buffering=1)  # noqa: SIM115 - open until the process ends

    def answer(environ, start_response):
        failed = chance.random() < share
        counted.write(f"{int(failed)}\n")
        if failed:
            start_response(
                "503 Slow Down",
                [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))],
            )
            return [SLOW_DOWN]
        return application(environ, start_response)

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *args):
            pass

    make_server(host, port, answer, threaded=True, request_handler=Quiet).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
