"""Session: what one model carries now. State the tags; the session makes the model so and reports what happened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lib_lora.adapters.adapter import Adapter, AdapterCache
from lib_lora.engine.plan import AdapterReport, Plan, plan
from lib_lora.errors import LoraError, PatchError
from lib_lora.formats.text import printable
from lib_lora.grammar.tag import LoraTag
from lib_lora.session.host import BatchHost, Host

log = logging.getLogger("lib_lora")


class Entry(Protocol):
    """An installed adapter, as far as a session needs to know it."""

    @property
    def path(self) -> Path:
        """The file."""
        ...


class Finder(Protocol):
    """Finds installed adapters by what users type: `lib_lora.library.Library` is one."""

    def find(self, name: str) -> Entry:
        """Raises NotFoundError."""
        ...


@runtime_checkable
class Chooser(Finder, Protocol):
    """A finder that says where it had to choose."""

    def ambiguity(self, name: str) -> str | None:
        """A sentence if `name` may mean several files: which was taken, and how to name each."""
        ...


@dataclass(frozen=True)
class Report:
    """What became of every tag of one `activate`."""

    adapters: tuple[AdapterReport, ...] = ()
    problems: tuple[str, ...] = ()  # sentences that belong to no single adapter

    @property
    def applied(self) -> tuple[AdapterReport, ...]:
        """The adapters that are active."""
        return tuple(report for report in self.adapters if report.applied)

    def sentences(self) -> list[str]:
        """Everything worth telling the user, in prompt order, each once; empty if all went as typed."""
        told = [printable(problem) for problem in self.problems]
        told += [sentence for report in self.adapters for sentence in report.sentences()]
        return list(dict.fromkeys(told))


class Session:
    """One model, the adapters it carries, and the report of the last change."""

    def __init__(self, host: Host, finder: Finder, *, cache: AdapterCache | None = None) -> None:
        self.host = host
        self.finder = finder
        self.cache = cache or AdapterCache()
        self.report = Report()
        self._active: tuple[Adapter, ...] = ()  # what is in use stays in memory, however many the cache keeps
        self._held: Callable[[], AbstractContextManager[None]] = getattr(host, "held", nullcontext)

    def activate(self, tags: Sequence[LoraTag], errors: Sequence[LoraError] = ()) -> Report:
        """Make the model carry exactly `tags`; no tags restores every base weight.

        Never raises for a bad adapter: it is left out, its report says why, and the others work. `errors` are tags that
        could not be read; they go into the report.
        """
        with self._held():
            read, reports = self._read(tags)
            also, problems = self._apply(read)
            reports |= also
            self._active = tuple(adapter for _, adapter in read.values())
            self.report = Report(
                tuple(reports[place] for place in sorted(reports)), (*map(str, errors), *problems)
            )
            return self.report

    def activate_each(
        self, prompts: Sequence[Sequence[LoraTag]], errors: Sequence[LoraError] = (), *, pictures: int = 1
    ) -> Report:
        """The same for a batch whose prompts have tags of their own; `pictures` pictures are made of each prompt.

        Raises TypeError if the host cannot do that. If the arithmetic of one adapter fails, none is applied.
        """
        if not isinstance(self.host, BatchHost):
            raise TypeError(f"{type(self.host).__name__} makes all pictures of a batch with the same adapters")
        with self._held():
            plans, told, active = [], {}, []
            for tags in prompts:
                read, reports = self._read(tags)
                made, unbound = self._plan(read)
                reports |= unbound | dict(zip(read, made.reports, strict=True))
                plans.append(made)
                active += [adapter for _, adapter in read.values()]
                told.update({reports[place].tag: reports[place] for place in sorted(reports)})
            problems = [str(error) for error in errors]
            try:
                self.host.apply_each(plans, pictures=pictures)
            except PatchError as error:
                told = {tag: replace(each, problem=each.problem or str(error)) for tag, each in told.items()}
                problems += [] if told else [str(error)]
            self._active = tuple(active)
            self.report = Report(tuple(told.values()), tuple(problems))
            return self.report

    def _read(
        self, tags: Sequence[LoraTag]
    ) -> tuple[dict[int, tuple[LoraTag, Adapter]], dict[int, AdapterReport]]:
        """`(what can be applied, the reports of what cannot)`, by place in the prompt."""
        read: dict[int, tuple[LoraTag, Adapter]] = {}
        reports: dict[int, AdapterReport] = {}
        for place, tag in enumerate(tags):
            try:
                adapter = self.cache.read(self.finder.find(tag.name).path)
                told = self.finder.ambiguity(tag.name) if isinstance(self.finder, Chooser) else None
            except LoraError as error:
                reports[place] = AdapterReport(tag, problem=str(error))
            except Exception as error:
                reports[place] = _broken(tag, error)
            else:
                _add(read, place, replace(tag, notes=(*tag.notes, told)) if told else tag, adapter)
        return read, reports

    def _plan(self, read: dict[int, tuple[LoraTag, Adapter]]) -> tuple[Plan, dict[int, AdapterReport]]:
        """`(the plan of `read`, the reports of what nobody can plan)`; that is taken out of `read`."""
        if not read:
            return Plan(), {}
        index = self.host.targets()
        try:
            return plan(list(read.values()), index), {}
        except Exception:
            reports = {}
            for place, each in list(read.items()):
                try:
                    plan([each], index)
                except Exception as error:
                    reports[place] = _broken(each[0], error)
                    del read[place]
            return plan(list(read.values()), index), reports

    def _apply(self, read: dict[int, tuple[LoraTag, Adapter]]) -> tuple[dict[int, AdapterReport], list[str]]:
        """Apply all of `read`, or those that are left without the ones whose arithmetic fails; also other problems."""
        made, unbound = self._plan(read)
        reports = unbound | dict(zip(read, made.reports, strict=True))
        try:
            self.host.apply(made)
        except PatchError as error:
            if not read:
                return reports, [str(error)]  # the base weights could not be put back
            guilty = [place for place, (tag, _) in read.items() if tag.name == error.source] or list(read)
            others = {place: each for place, each in read.items() if place not in guilty}
            for place in guilty:
                reports[place] = replace(reports[place], problem=reports[place].problem or str(error))
            also, problems = self._apply(others)
            return reports | also, problems
        return reports, []

    def clear(self) -> None:
        """The untouched model."""
        self.activate(())


def _broken(tag: LoraTag, error: Exception) -> AdapterReport:
    """Of an adapter that nothing else should suffer from: a fault of ours, or a file that nobody has thought of."""
    log.warning("Lora: %s cannot be used", tag.name, exc_info=error)
    told = (str(error).splitlines() or [""])[0][:200]
    return AdapterReport(tag, problem=f"{tag.name}: cannot be used ({type(error).__name__}: {told}); the others are")


def _add(read: dict[int, tuple[LoraTag, Adapter]], place: int, tag: LoraTag, adapter: Adapter) -> None:
    """The same file twice adds up: weights are summed at the place of the first tag."""
    for earlier, (first, same) in read.items():
        if same is adapter and first.dyn == tag.dyn:
            total = replace(first, te=first.te + tag.te, unet=first.unet + tag.unet,
                            force=first.force or tag.force, notes=first.notes + tag.notes)
            read[earlier] = (total, adapter)
            return
    read[place] = (tag, adapter)
