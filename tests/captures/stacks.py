"""The servers that are captured: how each is started, and in which conventions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE / ".venv"
"""Interpreters and modules that recording needs; never committed."""

HEADERS = "x-account-id,x-api-key,authorization,x-partner-id,x-org,cookie,baggage"
SANITIZED = "x-partner-id"
_PYTHON = {
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": HEADERS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": SANITIZED,
}
_OF_THE_MACHINE = "host.name,process.command_args,process.executable.path"
_JAVA = {
    "OTEL_INSTRUMENTATION_HTTP_SERVER_CAPTURE_REQUEST_HEADERS": HEADERS,
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_EXPERIMENTAL_RESOURCE_DISABLED_KEYS": _OF_THE_MACHINE,  # until 2.0
    "OTEL_RESOURCE_DISABLED_KEYS": _OF_THE_MACHINE,
}
CONVENTIONS: Mapping[str, str | None] = {"old": None, "http": "http", "dup": "http/dup"}
"""Name in the file -> `OTEL_SEMCONV_STABILITY_OPT_IN`, None for unset."""


@dataclass(frozen=True)
class Capture:
    """One file of recorded spans."""

    stack: str
    conventions: str
    environment: str
    """Of environments.py."""
    command: tuple[str, ...]
    json: bool = False
    """Whether the exporter sends OTLP/JSON."""
    sets: tuple[str, ...] = ()
    """`--set` arguments with which it is billed."""

    @property
    def name(self) -> str:
        """What exceptions in expected.json and differences.py are filed under."""
        return f"{self.stack}-{self.conventions}"

    @property
    def file(self) -> Path:
        """Concatenated export requests, or one JSON export request a line."""
        return HERE / f"{self.name}.{'jsonl' if self.json else 'pb'}"

    def variables(self, endpoint: str) -> dict[str, str]:
        """The environment variables that an operator would set."""
        variables = {
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json" if self.json else "http/protobuf",
            **(_JAVA if self.environment == "java" else _PYTHON),
            "CAPTURES_HEADERS": HEADERS,  # for where the two lists are code
            "CAPTURES_SANITIZED_HEADERS": SANITIZED,
        }
        opt_in = CONVENTIONS.get(self.conventions)
        return variables | ({"OTEL_SEMCONV_STABILITY_OPT_IN": opt_in} if opt_in else {})


def _python(stack: str, *command: str) -> list[Capture]:
    return [Capture(stack, conventions, "python", command) for conventions in CONVENTIONS]


def _node(stack: str, json: bool = False) -> list[Capture]:
    command = (f"{stack.removeprefix('node-')}_app.js",)
    return [
        Capture(stack, "current", "node", command, json),
        *(Capture(stack, conventions, "node-older", command, json) for conventions in CONVENTIONS),
    ]


_OTELGIN = "go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"


def _go() -> list[Capture]:
    outer_only = (f"processors::usage_policy::exclude_scopes=[{_OTELGIN}]",)
    remedied = "with-remedies"
    return [
        Capture("otelhttp", "current", "go", ("{folder}/shop", "bare")),
        Capture(f"otelhttp-{remedied}", "current", "go", ("{folder}/shop", "http")),
        *(Capture(f"otelhttp-{remedied}", names, "go", ("{folder}/shop-older", "http")) for names in ("old", "dup")),
        Capture(f"otelgin-{remedied}", "current", "go", ("{folder}/shop", "gin")),
        Capture(f"otelgin-in-otelhttp-{remedied}", "current", "go", ("{folder}/shop", "gin-inside"), sets=outer_only),
    ]


def _java(stack: str, program: str) -> list[Capture]:
    older = ("-javaagent:{folder}/agents/older.jar", program)
    return [
        Capture(stack, "current", "java", ("-javaagent:{folder}/agents/current.jar", program)),
        *(Capture(stack, conventions, "java", older) for conventions in CONVENTIONS),
    ]


_NATIVE = ("processors::usage_policy::exclude_scopes=[]",)
"""Left out beside the contrib instrumentation's, FastAPI's own telemetry is all there is here."""

CAPTURES: tuple[Capture, ...] = (
    *_python("flask", "flask_app.py"),
    *_python("django", "django_app.py", "gunicorn"),
    *_python("django-wsgiref", "django_app.py", "wsgiref"),
    Capture("django-wsgiref-with-remedies", "http", "python", ("django_app.py", "remedies")),
    *_python("fastapi", "fastapi_app.py", "contrib"),
    Capture("fastapi", "native", "python", ("fastapi_app.py", "bare"), sets=_NATIVE),
    Capture("fastapi-with-remedies", "native", "python", ("fastapi_app.py", "native"), sets=_NATIVE),
    *_python("starlette", "starlette_app.py"),
    *_python("aiohttp", "aiohttp_app.py", "plain"),
    Capture("aiohttp-with-remedies", "http", "python", ("aiohttp_app.py", "remedies")),
    *_node("node-http", json=True),
    *_node("express"),
    *_node("fastify"),
    *_node("koa"),
    *_go(),
    *_java("servlet", "shop.ServletApp"),
    *_java("spring", "shop.SpringApp"),
)
