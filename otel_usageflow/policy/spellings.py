"""One thing, several names: the attributes that conventions and vendors spell differently.

A policy may name any spelling, and reads all of them. On one span the spelling that the policy names wins, then the
current one, then the others in the order of this table; several spellings on one span never add up.

Only names with one meaning are listed together. `http.request.size` counts headers too, so it is no spelling of
`http.request.body.size`.
"""

from typing import Final, NamedTuple


class Spelling(NamedTuple):
    """One name of one thing."""

    key: str
    """The attribute."""
    source: str
    """Who writes it."""


_GENAI: Final = "OpenTelemetry, semantic-conventions-genai"
_GENAI_OLD: Final = "OpenTelemetry, deprecated"
_TRACELOOP: Final = "OpenLLMetry (Traceloop)"
_TRACELOOP_OLD: Final = "OpenLLMetry, older"
_INFERENCE: Final = "OpenInference (Arize)"
_SENTRY: Final = "Sentry"
_HTTP: Final = "OpenTelemetry, HTTP from 1.23"
_HTTP_OLD: Final = "OpenTelemetry, HTTP up to 1.20"

INPUT: Final = "gen_ai.usage.input_tokens"
OUTPUT: Final = "gen_ai.usage.output_tokens"
TOTAL: Final = "gen_ai.usage.total_tokens"
CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
PROVIDER: Final = "gen_ai.provider.name"
UNCACHED: Final = "usageflow.uncached_input_tokens"
"""Input tokens without those of the cache: worked out from a span's other numbers, see `policy/tokens.py`."""

TABLE: Final[tuple[tuple[Spelling, ...], ...]] = (
    (
        Spelling(INPUT, _GENAI),
        Spelling("gen_ai.usage.prompt_tokens", _GENAI_OLD),
        Spelling("llm.usage.prompt_tokens", _TRACELOOP_OLD),
        Spelling("llm.token_count.prompt", _INFERENCE),
    ),
    (
        Spelling(OUTPUT, _GENAI),
        Spelling("gen_ai.usage.completion_tokens", _GENAI_OLD),
        Spelling("llm.usage.completion_tokens", _TRACELOOP_OLD),
        Spelling("llm.token_count.completion", _INFERENCE),
    ),
    (
        Spelling(TOTAL, _TRACELOOP),
        Spelling("llm.usage.total_tokens", _TRACELOOP_OLD),
        Spelling("llm.token_count.total", _INFERENCE),
    ),
    (
        Spelling(CACHE_READ, _GENAI),
        Spelling("gen_ai.usage.cache_read_input_tokens", _TRACELOOP_OLD),
        Spelling("llm.token_count.prompt_details.cache_read", _INFERENCE),
        Spelling("gen_ai.usage.input_tokens.cached", _SENTRY),
    ),
    (
        Spelling(CACHE_WRITE, _GENAI),
        Spelling("gen_ai.usage.cache_creation.input_tokens", _GENAI_OLD),
        Spelling("gen_ai.usage.cache_creation_input_tokens", _TRACELOOP_OLD),
        Spelling("llm.token_count.prompt_details.cache_write", _INFERENCE),
        Spelling("gen_ai.usage.input_tokens.cache_write", _SENTRY),
    ),
    (
        Spelling("gen_ai.usage.reasoning.output_tokens", _GENAI),
        Spelling("gen_ai.usage.reasoning_tokens", _TRACELOOP),
        Spelling("llm.usage.reasoning_tokens", _TRACELOOP_OLD),
        Spelling("llm.token_count.completion_details.reasoning", _INFERENCE),
        Spelling("gen_ai.usage.output_tokens.reasoning", _SENTRY),
    ),
    (
        Spelling("gen_ai.usage.audio.input_tokens", _GENAI),
        Spelling("llm.token_count.prompt_details.audio", _INFERENCE),
    ),
    (
        Spelling("gen_ai.usage.audio.output_tokens", _GENAI),
        Spelling("llm.token_count.completion_details.audio", _INFERENCE),
    ),
    (
        Spelling("gen_ai.request.model", _GENAI),
        Spelling("llm.request.model", _GENAI_OLD),
        Spelling("llm.request.model_name", _INFERENCE),
        Spelling("llm.model_name", _INFERENCE),
        Spelling("embedding.model_name", _INFERENCE),
    ),
    (
        Spelling("gen_ai.response.model", _GENAI),
        Spelling("llm.response.model", _GENAI_OLD),
        Spelling("llm.response.model_name", _INFERENCE),
        Spelling("llm.model_name", _INFERENCE),
        Spelling("embedding.model_name", _INFERENCE),
    ),
    (
        Spelling(PROVIDER, _GENAI),
        Spelling("gen_ai.system", _GENAI_OLD),
        Spelling("llm.provider", _INFERENCE),
        Spelling("llm.system", _INFERENCE),
    ),
    (
        Spelling("http.request.body.size", _HTTP),
        Spelling("http.request_content_length", _HTTP_OLD),
    ),
    (
        Spelling("http.response.body.size", _HTTP),
        Spelling("http.response_content_length", _HTTP_OLD),
    ),
)
"""Each row is one thing; its first spelling is the current one. Sources: the registries of those who are named."""

# Where one name stands in two rows, it is looked up in the first: `llm.model_name` is a requested model.
_ROWS: Final[dict[str, tuple[str, ...]]] = {
    one.key: tuple(other.key for other in row) for row in reversed(TABLE) for one in row
}


def current(key: str) -> str:
    """The current spelling of an attribute; the attribute itself if it has no other."""
    return _ROWS.get(key, (key,))[0]


def spellings(key: str) -> tuple[str, ...]:
    """All spellings of an attribute, in the order in which they are looked for."""
    return key, *(other for other in _ROWS.get(key, ()) if other != key)
