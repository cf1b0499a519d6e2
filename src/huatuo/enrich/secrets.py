"""Secrets in command lines and variables, masked before anybody sees or stores them.

Masked is what follows a name that means a secret, what certain programs take as one, what stands
before the @ of an address, and what looks like a token or a private key. Too much is masked rather
than too little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["MASK", "masked_command", "masked_value", "masked_variables"]

MASK = "***"
_NAMES = (
    r"(?:pass(?:wd|word|phrase|code)?|pwd|pw|secret|token|bearer|credential|auth(?:orization)?|"
    r"cookie|dsn|(?:api|access|private|secret|signing|encryption|account|master|license)[-_.]?key|"
    r"connection[-_.]?string)s?(?:[-_.]?[0-9]+)?"
)
_WORD = rf"(?:[A-Za-z0-9]+[-_.]+)*[A-Za-z0-9]*?{_NAMES}"  # DB_PASSWORD, x.token
_IS_SECRET = re.compile(rf"[-_.]*{_WORD}", re.IGNORECASE)
_VALUE = r"""("[^"]*"?|'[^']*'?|(?:Bearer|Basic|Token)\s+\S+|[^\s"'&;,|]+)"""
# name=value, name: value, "name": "value", --name value; within one argument
_NAMED = re.compile(rf"""((?<![\w.-])[-_.]*{_WORD}["']?\s*[=:]\s*){_VALUE}""", re.IGNORECASE)
_OPTION = re.compile(rf"((?<!\S)--?{_WORD}\s+){_VALUE}", re.IGNORECASE)
_ADDRESS = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@]{0,256}:)\S*@")
_SCHEME = re.compile(r"\b(Bearer|Basic|Digest|Token)\s+[A-Za-z0-9+/=._~-]{6,}")
_SHAPE = re.compile(
    r"\bA(?:KIA|SIA|GPA|IDA|ROA)[0-9A-Z]{12,}|\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}"
    r"|\bglpat-[\w-]{16,}|\bxox[abeprs]-[\w-]{8,}|\bsk-[\w-]{16,}|\bAIza[\w-]{20,}"
    r"|\beyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?|\bhvs\.[\w-]{16,}|\bnpm_\w{20,}"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*",
    re.DOTALL,
)
# program, or its subcommand → options whose value is a secret, in the same argument or the next
_OPTIONS: Sequence[tuple[re.Pattern[str], tuple[str, ...]]] = [
    (re.compile(r"mysql\w*|mariadb[\w-]*|sshpass|mongo\w*|7z[ar]?|login"), ("-p",)),
    (re.compile(r"zip|unzip|sqlcmd|bcp|mosquitto_\w+|isql"), ("-P",)),
    (re.compile(r"curl"), ("-u", "-U", "-b", "--user", "--proxy-user")),
    (re.compile(r"https?|xh|redis-cli|valkey-cli"), ("-a", "--pass")),
    (re.compile(r"ldap\w+"), ("-w",)),
    (re.compile(r"smbclient|rpcclient|net"), ("-U",)),
    (re.compile(r"openssl"), ("-passin", "-passout", "-pass", "-k", "-K")),
]
_PROGRAMS = 6  # the program is among the first arguments: sudo -u x env mysql
_SPACES = re.compile(r"(\s+)")


def masked_command(arguments: Sequence[str]) -> list[str]:
    """The same arguments without secrets."""
    names = [argument.rpartition("/")[2] for argument in arguments[:_PROGRAMS]]
    found = [takes for program, takes in _OPTIONS if any(map(program.fullmatch, names))]
    options = [option for takes in found for option in takes]
    masked: list[str] = []
    is_next = False  # whether this argument is the value of the one before
    for argument in arguments:
        if is_next and not argument.startswith("--"):
            masked.append(MASK)
            is_next = False
            continue
        is_next = argument in options or (
            argument.startswith("--") and bool(_IS_SECRET.fullmatch(argument))
        )
        masked.append(_attached(argument, options) or _masked_argument(argument))
    return masked


def _attached(argument: str, options: Sequence[str]) -> str:
    """-pSECRET and --user=SECRET; "" if it is neither."""
    for option in options:
        start = f"{option}=" if option.startswith("--") else option
        if argument.startswith(start) and len(argument) > len(start):
            return start + MASK
    return ""


def _masked_argument(argument: str) -> str:
    """One argument may be a script: sh -c "mysql -psecret"."""
    text = masked_value(argument)
    words = _SPACES.split(text)
    if len(words) > 1:
        words[::2] = masked_command(words[::2])
    return "".join(words)


def masked_value(text: str, name: str = "") -> str:
    """A text without secrets; all of it is one if `name` says so."""
    if name and _IS_SECRET.fullmatch(name):
        return MASK
    before, equals, _ = text.partition("=")
    if equals and _IS_SECRET.fullmatch(before):
        return f"{before}={MASK}"
    text = _ADDRESS.sub(rf"\1{MASK}@", text)
    text = _NAMED.sub(rf"\1{MASK}", text)
    text = _OPTION.sub(rf"\1{MASK}", text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    return _SHAPE.sub(MASK, text)


def masked_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables of an environment, by name."""
    return {name: masked_value(value, name) for name, value in variables.items()}
