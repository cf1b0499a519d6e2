from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from tests.serve.conftest import Get

UI = Path(str(files("huatuo.serve"))) / "ui"
SCRIPTS = sorted(UI.rglob("*.js"))


def test_the_page_names_only_files_that_are_there(get: Get) -> None:
    for name in named(get):
        answer = get("/" + name)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def named(get: Get) -> list[str]:
    return re.findall(r'(?:href|src)="(ui/[^"]+)"', get("/").text)


def imports(script: Path, form: str = r'from "(\.[^"]+)"') -> list[Path]:
    return [(script.parent / name).resolve() for name in re.findall(form, script.read_text())]


def test_the_page_announces_what_it_needs_at_once_and_nothing_else(get: Get) -> None:
    announced = {UI / name.split("/", 2)[2] for name in named(get) if name.endswith(".js")}
    assert {UI / "main.js", UI / "pages/node.js", UI / "vendor/preact.js"} <= announced
    for script in announced:
        assert set(imports(script)) <= announced
    later = {page for script in SCRIPTS for page in imports(script, r'import\("([^"]+)"\)')}
    pages = {UI / "pages/profiles.js", UI / "pages/incidents.js"}
    assert later == pages | {UI / "parts/smallprofile.js"}
    assert not later & announced


def test_an_old_version_is_not_kept(get: Get) -> None:
    assert get("/ui/000000000000/main.js").headers["cache-control"] == "no-cache"


def test_script_stays_small() -> None:
    size = sum(script.stat().st_size for script in SCRIPTS)
    print(f"script: {size / 1000:.0f} kB in {len(SCRIPTS)} files")
    assert size < 225_000


def test_no_script_names_another_host() -> None:
    for script in SCRIPTS:
        text = script.read_text()
        text = re.sub(r"/\*!.*?\*/", "", text, flags=re.S)
        hosts = set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org"}
        assert not hosts, script


def test_every_import_resolves() -> None:
    for script in SCRIPTS:
        for path in imports(script) + imports(script, r'import\("([^"]+)"\)'):
            assert path.is_file(), f"{script}: {path}"


def test_vendored_code_has_its_licence() -> None:
    for name in ("preact", "htm"):
        assert (UI / "vendor" / f"{name}.LICENSE").read_text()


def palette(css: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})\b", css))


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_enough_contrast_in_both_themes() -> None:
    style = (UI / "style.css").read_text()
    light, dark = (palette(block) for block in re.findall(r":root {([^}]*)}", style)[:2])
    for colors in (light, dark):
        for text in ("text", "soft", "accent", "wrong", "warn"):
            for ground in ("ground", "panel", "panel2"):
                one, two = sorted((luminance(colors[text]), luminance(colors[ground])))
                contrast = (two + 0.05) / (one + 0.05)
                assert contrast >= 4.5, f"{text} on {ground}: {contrast:.2f}"
