"""A table of wrong configurations, and exactly what is said about each."""

from pathlib import Path

import pytest
from sample_components import GOOD, REGISTRY

from otel_usageflow.config.load import load
from otel_usageflow.errors import ConfigErrors

ENVIRONMENT = {"EMPTY": "", "SECRET": "sk_live_secret", "WRONG": "nonsense"}

BILL = "exporters::bill::"
WIRE = "receivers::wire::"
POLICY = "processors::rules::policies::0::"
TRACES = "service::pipelines::traces::"

TABLE = [
    # keys
    (
        [BILL + "api_kee=sk_live_zzz"],
        [
            BILL + "api_kee: unknown key; did you mean api_key? "
            "(known: account, aggregation, api, api_key, sending_queue, verbose)"
        ],
    ),
    (
        ["exporters={bill: {api_kee: sk_live_zzz, sending_queue: {storage: disk}}}"],
        [
            BILL + "api_kee: unknown key; did you mean api_key? "
            "(known: account, aggregation, api, api_key, sending_queue, verbose)"
        ],
    ),
    (
        [BILL + "aggregation::windw=1s"],
        [BILL + "aggregation::windw: unknown key; did you mean window? (known: window)"],
    ),
    (
        [BILL + "zzz=1"],
        [BILL + "zzz: unknown key (known: account, aggregation, api, api_key, sending_queue, verbose)"],
    ),
    (["exporters={bill: }"], [BILL + "api_key: is required", BILL + "sending_queue: is required"]),
    (
        ["exportrs={}"],
        [
            (
                "exportrs: unknown section; did you mean exporters? "
                "(known: exporters, extensions, processors, receivers, service)"
            )
        ],
    ),
    (
        ["service::telemetry::traces={}"],
        ["service::telemetry::traces: unknown key; did you mean metrics? (known: logs, metrics)"],
    ),
    (
        ["service::telemetry::metrics={level: none}"],
        ["service::telemetry::metrics::level: unknown key (known: readers)"],
    ),
    (
        ["service::telemetry::metrics::readers=[{periodic: {exporter: {otlp: {}}}}]"],
        [
            (
                "service::telemetry::metrics::readers::0: periodic readers are not supported, metrics are read here "
                "and not sent; write pull: {exporter: {prometheus: {host: 127.0.0.1, port: 8888}}}"
            )
        ],
    ),
    (
        ["service::telemetry::metrics::readers=[{pull: {exporter: {console: }}}]"],
        [
            "service::telemetry::metrics::readers::0::pull::exporter::prometheus: is required",
            "service::telemetry::metrics::readers::0::pull::exporter::console: unknown key (known: prometheus)",
        ],
    ),
    (
        ["service::telemetry::metrics::readers=[{pull: {exporter: {prometheus: {port: 65536}}}}]"],
        [
            (
                "service::telemetry::metrics::readers::0::pull::exporter::prometheus::port: "
                "must be less than or equal to 65535, not 65536"
            )
        ],
    ),
    # values
    ([BILL + "api=v3"], [BILL + "api: must be v1 or v2_stream, not 'v3'"]),
    ([BILL + "api=v2-stream"], [BILL + "api: must be v1 or v2_stream, not 'v2-stream'; did you mean v2_stream?"]),
    ([BILL + "verbose=maybe"], [BILL + "verbose: must be true or false, not 'maybe'"]),
    ([BILL + "account=12"], [BILL + 'account: must be text, not 12 (put it in quotes: "...")']),
    ([BILL + "account=[a]"], [BILL + "account: must be text, not a list"]),
    (
        [BILL + "aggregation::window=10"],
        [BILL + "aggregation::window: 10 is not a duration; write it with units, as in 300ms, 10s or 1m30s"],
    ),
    ([BILL + "aggregation=10s"], [BILL + "aggregation: must be a mapping (key: value), not '10s'"]),
    (
        [WIRE + "protocols::grpc::endpoint=4317"],
        [WIRE + "protocols::grpc::endpoint: 4317 is not an endpoint; write host:port, as in 127.0.0.1:4317"],
    ),
    ([WIRE + "protocols::grpc::max_mib=0"], [WIRE + "protocols::grpc::max_mib: must be greater than 0, not 0"]),
    ([WIRE + "protocols::grpc::max_mib=1.5"], [WIRE + "protocols::grpc::max_mib: must be a whole number, not 1.5"]),
    ([WIRE + "protocols="], [WIRE + "protocols: needs grpc, http or both"]),
    (
        ["service::telemetry::logs::level=loud"],
        ["service::telemetry::logs::level: must be debug, info, warn or error, not 'loud'"],
    ),
    ([BILL + "sending_queue="], [BILL + "sending_queue::storage: is required"]),
    # choices: one message for each mistake, and the policy's name
    (
        ["processors::rules::policies=[{name: chat, user: {heder: x}}]"],
        [POLICY + "user::heder: unknown key; did you mean header? (known: api_key, header, query) (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: {header: x, foo: 3}}]"],
        [POLICY + "user::foo: unknown key (known: header) (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: {}}]"],
        [POLICY + "user: needs one of the keys header, query or api_key (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: [{header: x}, {qery: y}]}]"],
        [POLICY + "user::1::qery: unknown key; did you mean query? (known: api_key, header, query) (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: x-account-id}]"],
        [POLICY + "user: must be a mapping (key: value) or a list (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: {api_key: {header: x, hash: sha1}}}]"],
        [
            POLICY
            + "user::api_key::hash: must be none, sha256 or hmac, not 'sha1'; did you mean sha256? (policy 'chat')"
        ],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: {query: a}, quantity: many}]"],
        [POLICY + "quantity: must be a number or a mapping (key: value), not 'many' (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: {query: a}, quantity: {atribute: x}}]"],
        [POLICY + "quantity::atribute: unknown key; did you mean attribute? (known: attribute) (policy 'chat')"],
    ),
    (
        ["processors::rules::policies=[{name: chat, user: {query: a}, status: {}}]"],
        [POLICY + "status: must be text or a list, not a mapping (policy 'chat')"],
    ),
    (["processors::rules::policies=[]"], ["processors::rules::policies: must not be empty"]),
    (["processors::rules::policies={}"], ["processors::rules::policies: must be a list, not a mapping"]),
    (
        ["processors::rules::policies=[{name: a, user: {query: a}}, {name: a, user: {query: a}}]"],
        ["processors::rules::policies::1::name: a is used twice"],
    ),
    # ids
    (["receivers::wir="], ["receivers::wir: unknown receiver type wir; did you mean wire? (known: wire)"]),
    (
        ["receivers::bill="],
        ["receivers::bill: unknown receiver type bill (known: wire); bill belongs under exporters"],
    ),
    (["receivers::wire/="], ["receivers::wire/: is not a valid id; the part after / is empty"]),
    (
        ["receivers::wire/a b="],
        ["receivers::wire/a b: is not a valid id; the part after / may hold letters, digits and _ - . only"],
    ),
    (
        ["receivers::2wire="],
        ["receivers::2wire: is not a valid id; write type or type/name, the type in letters, digits and _"],
    ),
    (["receivers=wire"], ["receivers: must be a mapping of ids (type or type/name) to settings"]),
    # references
    (
        [TRACES + "receivers=[wir]"],
        [TRACES + "receivers::0: wir is not configured under receivers; did you mean wire? (configured: wire)"],
    ),
    ([TRACES + "receivers=[wire, wire]"], [TRACES + "receivers::1: wire is listed twice; list it once"]),
    ([TRACES + "receivers="], [TRACES + "receivers: needs at least one receiver"]),
    ([TRACES + "exporters=[]"], [TRACES + "exporters: needs at least one exporter"]),
    ([TRACES + "processors=[]"], [TRACES + "processors: needs at least one processor"]),
    ([TRACES + "receivers=wire"], [TRACES + "receivers: must be a list, not 'wire'"]),
    (
        ["processors::rules/b={policies: [{name: b, user: {query: b}}]}", TRACES + "processors=[rules, rules/b]"],
        [TRACES + "processors: needs exactly one processor; put the others into other pipelines"],
    ),
    (
        ["service::pipelines="],
        [
            (
                "service::pipelines: needs at least one pipeline; "
                "write traces: {receivers: [...], processors: [...], exporters: [...]}"
            )
        ],
    ),
    (
        ["service::pipelines::metrics={}"],
        ["service::pipelines::metrics: carries metrics, but usage is made from traces only; remove this pipeline"],
    ),
    (
        ["service::extensions=[]"],
        [BILL + "sending_queue::storage: disk is not started; add it to service::extensions"],
    ),
    (
        [BILL + "sending_queue::storage=dusk"],
        [
            BILL + "sending_queue::storage: dusk is not configured under extensions; "
            "did you mean disk? (configured: disk)"
        ],
    ),
    (
        [BILL + "zzz=1", BILL + "sending_queue::storage=dusk"],
        [
            BILL + "zzz: unknown key (known: account, aggregation, api, api_key, sending_queue, verbose)",
            BILL + "sending_queue::storage: dusk is not configured under extensions; "
            "did you mean disk? (configured: disk)",
        ],
    ),
    (
        ["extensions::lamp=", BILL + "sending_queue::storage=lamp"],
        [BILL + "sending_queue::storage: lamp is no storage; name an extension of type disk"],
    ),
    (
        ["service::extensions=[disk, nothing]"],
        [
            (
                "service::extensions::1: nothing is not configured under extensions; "
                "add it under extensions (configured: disk)"
            )
        ],
    ),
    # the environment
    ([BILL + "api_key=${env:NOPE}"], [BILL + "api_key: is required, but the environment variable NOPE is not set"]),
    ([BILL + "api_key=${env:EMPTY}"], [BILL + "api_key: is required, but the environment variable EMPTY is empty"]),
    ([BILL + "verbose=${env:WRONG}"], [BILL + "verbose: must be true or false, not 'nonsense'"]),
    (
        [BILL + "account=${file:/etc/passwd}"],
        [BILL + "account: ${file:...} is not supported; write ${env:NAME}, or $${...} for the text itself"],
    ),
    (
        [BILL + "account=${env:A-B}"],
        [
            BILL + "account: holds ${...} without a valid variable name; "
            "write ${env:NAME}, or $${...} for the text itself"
        ],
    ),
    ([BILL + "account=${env:A"], [BILL + "account: holds ${ without a closing }; write $${ for the text itself"]),
    # --set itself
    (["a"], ["--set: has no equal sign; write --set key::path=value"]),
    (["a::::b=1"], ["--set: has an empty key in 'a::::b'; write --set key::path=value"]),
    (["a::b=[1"], ["--set: a::b: expected ',' or ']', but got '<stream end>'"]),
    # several at once, in the order of the file
    (
        [WIRE + "protocols=", BILL + "api=v3", TRACES + "exporters=[bil]"],
        [
            WIRE + "protocols: needs grpc, http or both",
            BILL + "api: must be v1 or v2_stream, not 'v3'",
            TRACES + "exporters::0: bil is not configured under exporters; did you mean bill? (configured: bill)",
        ],
    ),
]


def problems(tmp_path: Path, text: str, sets: list[str]) -> list[str]:
    file = tmp_path / "usageflow.yaml"
    file.write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        load([str(file)], sets, REGISTRY, environment=ENVIRONMENT)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("sets", "expected"), TABLE, ids=[" ".join(sets)[:60] for sets, _ in TABLE])
def test_wrong(tmp_path: Path, sets: list[str], expected: list[str]) -> None:
    """Every mistake is reported once, with its path, what is wrong and what to do."""
    assert problems(tmp_path, GOOD, sets) == expected


def test_good(tmp_path: Path) -> None:
    """The configuration that the table varies is without mistakes and without remarks."""
    file = tmp_path / "usageflow.yaml"
    file.write_text(GOOD)
    assert load([str(file)], [], REGISTRY, environment={}).warnings == ()


SECRETS = [
    BILL + "api_key={a: sk_live_secret}",
    BILL + "api_key=[sk_live_secret]",
    BILL + "api_kee=sk_live_secret",
    "exporters::bill=sk_live_secret",
    "exporters=sk_live_secret",
    BILL + "api_key::key=${env:SECRET}",
    "processors::rules::policies=[{name: a, user: {api_key: sk_live_secret}}]",
    "processors::rules::policies=[{name: a, user: {api_key: {secret: [sk_live_secret]}}}]",
    "processors::rules::policies=[{name: a, user: sk_live_secret}]",
]


@pytest.mark.parametrize("argument", SECRETS)
def test_secrets_stay_secret(tmp_path: Path, argument: str) -> None:
    """What is, or may have been meant as, a secret is in no message."""
    assert "sk_live" not in "\n".join(problems(tmp_path, GOOD, [argument]))


FILES = {
    "empty": (b"", "{file}: is empty; a configuration needs receivers, processors, exporters and service"),
    "comment": (b"# later\n", "{file}: is empty; a configuration needs receivers, processors, exporters and service"),
    "list": (b"- a\n", "{file}: must be a mapping (key: value) at the top, not a list"),
    "text": (b"hello\n", "{file}: must be a mapping (key: value) at the top, not a single value"),
    "twice": (b"a: 1\nb: 2\na: 3\n", "{file}:3: the key 'a' stands here twice; keep one of the two"),
    "twice below": (b"a:\n  b: 1\n  b: 2\n", "{file}:3: the key 'b' stands here twice; keep one of the two"),
    "syntax": (b"a: 1\nb: [1, 2\n", "{file}:3: expected ',' or ']', but got '<stream end>'"),
    "tab": (
        b"a:\n\tb: 1\n",
        (
            "{file}:2: found character '\\t' that cannot start any token; "
            "indent with spaces, and put text that begins with such a character in quotes"
        ),
    ),
    "not UTF-8": (b"a: 1\nb: \xff\n", "{file}:2: is not UTF-8 text"),
    "control character": (b"a: 1\nb: \x01\n", "{file}:2: holds a character that YAML does not allow"),
    "tag": (b"a: !env X\n", "{file}:1: uses a tag (!...), which a configuration cannot; put the text in quotes"),
    "anchor": (
        b"a: *b\n",
        "{file}:1: refers to an anchor that is not defined (text that begins with * needs quotes)",
    ),
    "documents": (b"a: 1\n---\nb: 2\n", "{file}:2: holds more than one document; put each in a file of its own"),
    "itself": (b"a: &a [*a]\n", "{file}:1: holds a structure that contains itself"),
    "nested": (b"[" * 5000, "{file}: is nested too deeply"),
}


@pytest.mark.parametrize("name", FILES)
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    """A file that cannot be read is named with the line, and without what stands in it."""
    content, expected = FILES[name]
    file = tmp_path / "usageflow.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigErrors) as caught:
        load([str(file)], [], REGISTRY, environment={})
    assert str(caught.value) == expected.format(file=file)


def test_no_file(tmp_path: Path) -> None:
    """Files that are missing or directories are all reported at once."""
    missing = tmp_path / "missing.yaml"
    with pytest.raises(ConfigErrors) as caught:
        load([str(missing), str(tmp_path)], [], REGISTRY, environment={})
    assert str(caught.value) == f"{missing}: there is no such file\n{tmp_path}: is a directory; name a file"


def test_no_source() -> None:
    """Without any file, the message names the option."""
    with pytest.raises(ConfigErrors, match="--config FILE"):
        load([], [], REGISTRY, environment={})
