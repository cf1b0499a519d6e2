"""Have the running agent capture now, and wait for the outcome. Examples:

huatuo capture --container web --plan cpu   stacks of one container at a high rate
huatuo capture --plan tasks                 who sleeps uninterruptibly on this host, and where
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from huatuo.cli.common import add_config, configuration, print_json
from huatuo.errors import HuatuoError
from huatuo.settings import AgentSettings
from huatuo.tracing.capture import PROFILERS

__all__ = ["configure", "run"]

_POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 15.0
_LONGEST_SECONDS = 600.0


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--plan", choices=[*PROFILERS], default="cpu", metavar="PLAN",
                        help=f"{', '.join(PROFILERS)} (default: cpu)")  # fmt: skip
    parser.add_argument("--container", default="", metavar="C", help="only this one, by name")
    parser.add_argument("--agent", metavar="ADDRESS:PORT", help="overrides [agent] listen")


def run(arguments: argparse.Namespace) -> int:
    settings = configuration(arguments).agent
    address = arguments.agent or settings.listen
    wanted = urllib.parse.urlencode({"plan": arguments.plan, "container": arguments.container})
    state = _ask(address, settings, f"captures/start?{wanted}", b"")
    end = time.monotonic() + _LONGEST_SECONDS
    while state["status"] in ("queued", "running") and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        jobs = _ask(address, settings, "captures")
        state = next((job for job in jobs if job["id"] == state["id"]), state)
    if arguments.json:
        print_json(state)
    else:
        print(f"capture {state['id']}: {state['status']} {state['reason']}".rstrip())
        if state["incident"]:
            print(f"`huatuo incident {state['incident']}` shows it")
    return 0 if state["status"] == "done" else 1


def _ask(address: str, settings: AgentSettings, path: str, body: bytes | None = None) -> Any:
    """GET, or POST with a body. Raises HuatuoError with what the agent said."""
    request = urllib.request.Request(f"http://{address}/api/v1/{path}", body)
    if settings.token_file:
        try:
            token = Path(settings.token_file).read_text().strip()
        except OSError as error:
            raise HuatuoError(f"{settings.token_file}: {error.strerror}") from error
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise HuatuoError(
            f"the agent refused: {error.read(2000).decode(errors='replace')}"
        ) from None
    except (OSError, ValueError) as error:
        raise HuatuoError(f"no agent answers at {address}: {error}; is it running?") from None
