"""Answers as bytes: JSON, CSV, problems."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import msgspec
from starlette.responses import Response

from huatuo.errors import HuatuoError, StoreError
from huatuo.export.compression import TooLarge
from huatuo.serve.answers import Problem
from huatuo.serve.refusal import Refusal

__all__ = [
    "csv_response",
    "error_response",
    "file_response",
    "json_response",
    "problem_response",
]

_encoder = msgspec.json.Encoder()


def json_response(answer: object, status: int = 200) -> Response:
    return Response(_encoder.encode(answer), status, media_type="application/json")


def problem_response(status: int, problem: Problem) -> Response:
    return json_response(problem, status)


def error_response(error: HuatuoError, *, of_request: bool = False) -> Response:
    """What is told of an error; `of_request`: other errors than the store's are the request's."""
    if isinstance(error, Refusal):
        return problem_response(error.status, Problem(error.error, error.what, error.hint))
    if not of_request or isinstance(error, StoreError):
        return problem_response(503, Problem("unavailable", str(error), "try again shortly"))
    status = 413 if isinstance(error, TooLarge) else 400
    return problem_response(status, Problem("bad_request", str(error)))


def csv_response(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """A table to open in a spreadsheet; cells that would run as a formula there are quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def file_response(name: str, media_type: str, data: bytes) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
