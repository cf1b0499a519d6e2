"""Debug information from a server: a real one over HTTP, on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from huatuo.enrich.symbols.native import Symbols, SymbolSettings
from huatuo.enrich.symbols.table import Source
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host
from huatuo.model.profile import Line
from tests.enrich.symbols.toolchain import binary_file, run, tool

Compile = Callable[..., Path]


class Server(ThreadingHTTPServer):
    """Answers with `body`, as `manner` says; `asked` has the paths."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.body = b""
        self.manner = "well"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        manner, body = self.server.manner, self.server.body
        if manner in ("404", "500"):
            self.send_error(int(manner))
            return
        self.send_response(200)
        if manner == "well":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if manner == "slowly":
                for _ in range(200):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            elif manner == "endlessly":
                while True:
                    self.wfile.write(bytes(1 << 16))
            else:
                self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


class Program:
    """A stripped program, its debug information, and a function that only the latter names."""

    def __init__(self, whole: Path, directory: Path) -> None:
        self.stripped, self.debug = directory / "program", directory / "program.debug"
        run(tool("objcopy"), "--only-keep-debug", whole, self.debug)
        run(tool("objcopy"), "--strip-all", whole, self.stripped)
        line = next(x for x in run(tool("nm"), whole).splitlines() if x.endswith(" t hidden"))
        self.hidden = int(line.split()[0], 16)
        with Elf(whole) as elf:
            self.build_id = elf.build_id


@pytest.fixture
def program(compiled: Compile, tmp_path: Path) -> Program:
    return Program(compiled("shapes.c"), tmp_path)


def ask(
    program: Program, directory: Path, *servers: str, **settings: float
) -> tuple[Symbols, Line]:
    made = Symbols(
        Host(),
        directory,
        SymbolSettings(debuginfod=servers, **settings),  # type: ignore[arg-type]
    )
    file = binary_file(program.stripped)
    made.lines(file, [program.hidden])
    assert made.settle(60)
    [lines] = made.lines(file, [program.hidden])
    assert lines
    return made, lines[-1]


def sources(made: Symbols, program: Program) -> Source:
    found = made.sources(binary_file(program.stripped))
    assert found is not None
    made.close()
    return found


def test_nothing_is_asked_unless_named(server: Server, program: Program, tmp_path: Path) -> None:
    server.body = program.debug.read_bytes()
    made, line = ask(program, tmp_path / "symbols")
    assert line.function == f"program:{program.hidden:#x}"
    assert Source.PARTIAL not in sources(made, program)
    assert server.asked == []


def test_the_first_server_that_has_it(server: Server, program: Program, tmp_path: Path) -> None:
    server.body = program.debug.read_bytes()
    nobody = "http://127.0.0.1:9"  # refuses
    made, line = ask(program, tmp_path / "symbols", nobody, server.url + "/")
    assert (line.function, Path(line.file).name) == ("hidden", "shapes.c")
    found = sources(made, program)
    assert Source.DEBUGINFOD | Source.DWARF | Source.SEPARATE in found
    assert server.asked == [f"/buildid/{program.build_id}/debuginfo"]
    assert [path.suffix for path in (tmp_path / "symbols").iterdir()] == [".sym"]


def test_a_server_that_has_it_not(server: Server, program: Program, tmp_path: Path) -> None:
    server.manner = "404"
    made, line = ask(program, tmp_path / "symbols", server.url)
    assert line.function == f"program:{program.hidden:#x}"
    assert Source.PARTIAL not in sources(made, program)  # it is not asked again tomorrow


@pytest.mark.parametrize("manner", ["500", "slowly", "endlessly", "garbage", "other", "nothing"])
def test_bad_servers(
    server: Server, program: Program, tmp_path: Path, manner: str, compiled: Compile
) -> None:
    server.manner = manner
    if manner == "garbage":
        server.body = b"\x7fELF" + b"x" * 10_000
    if manner == "other":
        server.body = compiled("shapes.cpp").read_bytes()
    begin = time.monotonic()
    made, line = ask(
        program, tmp_path / "symbols", server.url, download_seconds=2, download_bytes=1 << 20
    )
    assert time.monotonic() - begin < 15
    assert line.function == f"program:{program.hidden:#x}"
    found = sources(made, program)
    assert Source.PARTIAL in found
    assert Source.DWARF not in found
    assert len(server.asked) == 1


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1", "nonsense", ""])
def test_only_http(program: Program, tmp_path: Path, address: str) -> None:
    made, _ = ask(program, tmp_path / "symbols", address)
    assert Source.DWARF not in sources(made, program)
