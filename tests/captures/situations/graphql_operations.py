"""A GraphQL endpoint whose operation is put onto the SERVER span, by an extension of ten lines."""

import json
from collections.abc import Iterator

import strawberry
from fastapi import FastAPI
from opentelemetry import trace
from serving import ask, served
from strawberry.extensions import SchemaExtension
from strawberry.fastapi import GraphQLRouter


class NameOperation(SchemaExtension):
    """Puts type and name of the operation onto the span of the request."""

    def on_execute(self) -> Iterator[None]:
        context, span = self.execution_context, trace.get_current_span()
        span.set_attribute("graphql.operation.type", context.operation_type.value.lower())
        if context.operation_name:
            span.set_attribute("graphql.operation.name", context.operation_name)
        yield


@strawberry.type
class Query:
    @strawberry.field
    def price(self) -> int:
        return 7

    @strawberry.field
    def broken(self) -> int:
        raise RuntimeError("a bug")


@strawberry.type
class Mutation:
    @strawberry.mutation
    def order(self) -> int:
        return 1


app = FastAPI()
schema = strawberry.Schema(Query, Mutation, extensions=[NameOperation])
app.include_router(GraphQLRouter(schema), prefix="/graphql")


def query(port: int, text: str) -> None:
    ask(port, "POST", "/graphql", json.dumps({"query": text}).encode(), content_type="application/json")


with served(app) as port:
    query(port, "query Price { price }")
    query(port, "query Price { price }")
    query(port, "{ price }")
    query(port, "query Broken { broken }")
    query(port, "mutation Order { order }")
    query(port, "query Wrong { nothing }")
    query(port, "not GraphQL")
