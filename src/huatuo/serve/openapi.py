"""The API described: an OpenAPI 3.1 document made from the types, and a page for people."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from huatuo.model.event import Event
from huatuo.serve.answers import Problem
from huatuo.serve.endpoint import Endpoint, File
from huatuo.serve.params import Param

__all__ = ["BASE", "document", "page"]

BASE = "/api/v1"
_REF = "#/components/schemas/{name}"
_BINARY = {"type": "string", "format": "binary"}


def document(endpoints: Sequence[Endpoint], stream: Endpoint) -> dict[str, Any]:
    """`stream`: the endpoint of server-sent events, which carries its answer type as text."""
    types = [None if endpoint.answer is File else endpoint.answer for endpoint in endpoints]
    schemas, components = msgspec.json.schema_components(
        [*types, Problem, Event], ref_template=_REF
    )
    paths = {
        BASE + endpoint.path: {
            endpoint.method.lower(): _operation(endpoint, *_written(endpoint, schema))
        }
        for endpoint, schema in zip(endpoints, schemas, strict=False)
    }
    event = {"$ref": _REF.format(name="Event")}
    paths[BASE + stream.path] = {"get": _operation(stream, "text/event-stream", event)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HUATUO",
            "version": version("huatuo"),
            "summary": "One node seen from inside its kernel",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _written(endpoint: Endpoint, schema: object) -> tuple[str, object]:
    """(media type, schema) of an endpoint's answer."""
    if endpoint.answer is File:
        return "application/octet-stream", _BINARY
    return "application/json", schema


def _operation(endpoint: Endpoint, media_type: str, schema: object) -> dict[str, Any]:
    problem = {"application/json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    content: dict[str, Any] = {media_type: {"schema": schema}}
    if endpoint.table:
        content["text/csv"] = {"schema": {"type": "string"}}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    operation = {
        "operationId": re.sub(r"\W+", "_", endpoint.path).strip("_"),
        "summary": endpoint.summary,
        "parameters": in_path + [_parameter(param) for param in endpoint.parameters],
        "responses": {
            "200": {"description": endpoint.summary, "content": content},
            "4XX": {"description": "The request cannot be answered", "content": problem},
        },
    }
    if endpoint.method != "GET":
        operation["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": _BINARY}},
        }
    return operation


def _parameter(param: Param) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer" if param.kind == "integer" else "string"}
    if param.kind == "choice":
        schema["enum"] = list(param.choices)
    if param.default:
        schema["default"] = int(param.default) if param.kind == "integer" else param.default
    described: dict[str, Any] = {
        "name": param.name,
        "in": "query",
        "description": param.help,
        "schema": schema,
    }
    if param.name.endswith(".*"):
        described["description"] += f" (one parameter per name: {param.name[:-1]}NAME=VALUE)"
    if param.example:
        described["example"] = param.example
    return described


def page(endpoints: Sequence[Endpoint], stylesheet: str) -> str:
    """All endpoints on one page, with links to try them."""
    sections = "\n".join(_section(endpoint) for endpoint in endpoints)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HUATUO API</title><link rel="stylesheet" href="{stylesheet}"></head>
<body><main class="page api"><h1>HUATUO API</h1>
<p>JSON over HTTP; the web UI uses nothing else. Times are RFC 3339, seconds since 1970, or relative
to now like <code>-1h</code>. Errors are <code>{{"error", "what", "hint"}}</code>. Described for
programs in <a href="api/v1/openapi.json">openapi.json</a>; Prometheus reads
<a href="metrics">/metrics</a>. <a href="./">Back to the UI</a>.</p>
{sections}
</main></body></html>"""


def _section(endpoint: Endpoint) -> str:
    path = BASE + endpoint.path
    shown = html.escape(path)
    if "{" not in path and endpoint.method == "GET":
        example = next((f"?name={p.example}" for p in endpoint.params if p.name == "name"), "")
        shown = f'<a href="{html.escape(path[1:] + example)}">{shown}</a>'
    rows = "".join(
        f"<tr><td><code>{html.escape(p.name)}</code></td><td>{html.escape(p.help)}</td>"
        f"<td>{html.escape(' · '.join(p.choices) or p.kind)}</td>"
        f"<td><code>{html.escape(p.default)}</code></td>"
        f"<td><code>{html.escape(p.example)}</code></td></tr>"
        for p in endpoint.parameters
    )
    table = (
        "<div class='scroll'><table><thead><tr><th>parameter</th><th>meaning</th><th>form</th>"
        f"<th>default</th><th>example</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    summary = html.escape(endpoint.summary)
    heading = f"<h2><code>{endpoint.method} {shown}</code></h2>"
    return f"<section>{heading}<p>{summary}</p>{table if rows else ''}</section>"
