"""Which of a BPF object's programs are used on a kernel.

A program is named ROLE or ROLE__FORM. Programs of one role are alternatives in file order: the
first that is not known to be missing is used. A role with a single form accompanies the role that
has alternatives: it is used when a program of the same form is, and that form is not used without
it. That is all a probe writes down.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

__all__ = ["Program", "choose", "without_form"]


@dataclass(slots=True)
class Program:
    """One program of the object; `missing` says why it is not used."""

    name: str
    section: str
    missing: str = ""
    used: bool = False
    pointer: int = 0
    links: list[int] = field(default_factory=list)

    @property
    def role(self) -> str:
        return self.name.partition("__")[0]

    @property
    def form(self) -> str:
        return self.name.partition("__")[2]

    @property
    def hook(self) -> str:
        """As `huatuo probes` shows it: the section, and the form where there are several."""
        return f"{self.section} ({self.form.replace('_', ' ')})" if self.form else self.section


def choose(programs: Sequence[Program]) -> None:
    """Mark as used what is to be loaded."""
    roles: dict[str, list[Program]] = {}
    for program in programs:
        roles.setdefault(program.role, []).append(program)
    single = [forms[0] for forms in roles.values() if len(forms) == 1]
    companions = [program for program in single if program.form]
    chosen_forms = set()
    for forms in roles.values():
        if len(forms) > 1 or not forms[0].form:
            usable = next((program for program in forms if _is_there(program, companions)), None)
            if usable:
                usable.used = True
                chosen_forms.add(usable.form)
    for companion in companions:
        companion.used = companion.form in chosen_forms


def _is_there(program: Program, companions: Sequence[Program]) -> bool:
    """Whether a program, and all that accompanies its form, can be had."""
    needed = [each for each in companions if each.form == program.form]
    return not any(each.missing for each in (program, *needed))


def without_form(programs: Sequence[Program], optional: Collection[str]) -> str:
    """Why a role that is needed has no form left; "" if all have one."""
    settled = {program.role for program in programs if program.used} | set(optional)
    idle = [program for program in programs if program.role not in settled]
    if not any(_is_needed(program, programs) for program in idle):
        return ""
    return "; ".join(f"{program.section}: {program.missing}" for program in idle if program.missing)


def _is_needed(program: Program, programs: Sequence[Program]) -> bool:
    """Not those that only accompany a form."""
    return not program.form or sum(each.role == program.role for each in programs) > 1
