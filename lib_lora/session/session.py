"""Session: what one model carries now. State the tags; the session makes the model so and reports what happened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from lib_lora.adapters.adapter import Adapter
from lib_lora.adapters.cache import AdapterCache
from lib_lora.engine.active import Active
from lib_lora.engine.plan import Plan, plan
from lib_lora.engine.report import AdapterReport, Entry
from lib_lora.errors import LoraError, NotFoundError, PatchError, first_line
from lib_lora.formats.text import printable
from lib_lora.grammar.tag import LoraTag
from lib_lora.session.finder import Answer, Finder, family_of, look_up
from lib_lora.session.host import BatchHost, Host

log = logging.getLogger("lib_lora")


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
        sentences = [printable(problem) for problem in self.problems]
        sentences += [sentence for report in self.adapters for sentence in report.sentences()]
        return list(dict.fromkeys(sentences))


class Session:
    """One model, the adapters it carries, and the report of the last change."""

    def __init__(self, host: Host, finder: Finder, *, cache: AdapterCache | None = None) -> None:
        self.host = host
        self.finder = finder
        self.cache = cache or AdapterCache()
        self.report = Report()
        self._active: tuple[Adapter, ...] = ()  # what is in use stays in memory, however many the cache keeps
        self._held: Callable[[], AbstractContextManager[None]] = getattr(host, "held", nullcontext)

    def look_up(self, tags: Iterable[LoraTag]) -> dict[str, Answer]:
        """What the names in `tags` mean, for who wants to know it before `activate`, which takes it over."""
        return look_up(self.finder, (tag.name for tag in tags))

    def activate(
        self,
        tags: Sequence[LoraTag],
        errors: Sequence[LoraError] = (),
        *,
        answers: Mapping[str, Answer] | None = None,
    ) -> Report:
        """Make the model carry exactly `tags`; no tags restores every base weight.

        Never raises for a bad adapter: it is left out, its report says why, and the others work. `errors` are tags that
        could not be read; they go into the report. `answers`: what `look_up` said of these tags, if it was asked.
        """
        with self._held():
            read, reports = self._read(tags, self.look_up(tags) if answers is None else answers)
            also, problems = self._apply(read)
            reports |= also
            self._active = tuple(each.adapter for each in read.values())
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
            plans, by_tag, active = [], {}, []
            answers = self.look_up(tag for tags in prompts for tag in tags)
            for tags in prompts:
                read, reports = self._read(tags, answers)
                planned, unbound = self._plan(read)
                reports |= unbound | dict(zip(read, planned.reports, strict=True))
                plans.append(planned)
                active += [each.adapter for each in read.values()]
                by_tag.update({reports[place].tag: reports[place] for place in sorted(reports)})
            problems = [str(error) for error in errors]
            try:
                self.host.apply_each(plans, pictures=pictures)
            except PatchError as error:
                by_tag = {tag: replace(each, problem=each.problem or str(error)) for tag, each in by_tag.items()}
                problems += [] if by_tag else [str(error)]
            self._active = tuple(active)
            self.report = Report(tuple(by_tag.values()), tuple(problems))
            return self.report

    def _read(
        self, tags: Sequence[LoraTag], answers: Mapping[str, Answer]
    ) -> tuple[dict[int, Active], dict[int, AdapterReport]]:
        """`(what can be applied, the reports of what cannot)`, by place in the prompt."""
        read: dict[int, Active] = {}
        reports: dict[int, AdapterReport] = {}
        for place, tag in enumerate(tags):
            answer = answers[tag.name]
            try:
                active = self._found(tag, answer)
            except LoraError as error:
                reports[place] = AdapterReport(tag, problem=str(error), entry=answer.entry)
            except Exception as error:
                reports[place] = _broken(tag, error, answer.entry)
            else:
                _add(read, place, active)
        return read, reports

    def _found(self, tag: LoraTag, answer: Answer) -> Active:
        """The adapter that `tag` asks for. Raises what finding or reading it raises."""
        if answer.entry is None:
            raise answer.error or NotFoundError(tag.name)
        adapter = self.cache.read(answer.entry.path)
        told = replace(tag, notes=(*tag.notes, answer.ambiguity)) if answer.ambiguity else tag
        return Active(told, adapter, answer.entry, family_of(answer.entry, adapter))

    def _plan(self, read: dict[int, Active]) -> tuple[Plan, dict[int, AdapterReport]]:
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
                    reports[place] = _broken(each.tag, error, each.entry)
                    del read[place]
            return plan(list(read.values()), index), reports

    def _apply(self, read: dict[int, Active]) -> tuple[dict[int, AdapterReport], list[str]]:
        """Apply all of `read`, or those that are left without the ones whose arithmetic fails; also other problems."""
        planned, unbound = self._plan(read)
        reports = unbound | dict(zip(read, planned.reports, strict=True))
        try:
            self.host.apply(planned)
        except PatchError as error:
            if not read:
                return reports, [str(error)]  # the base weights could not be put back
            guilty = [place for place, each in read.items() if each.tag.name == error.source] or list(read)
            others = {place: each for place, each in read.items() if place not in guilty}
            for place in guilty:
                reports[place] = replace(reports[place], problem=reports[place].problem or str(error))
            also, problems = self._apply(others)
            return reports | also, problems
        return reports, []

    def clear(self) -> None:
        """The untouched model."""
        self.activate(())


def _broken(tag: LoraTag, error: Exception, entry: Entry | None) -> AdapterReport:
    """Of an adapter that nothing else should suffer from: a fault of ours, or a file that nobody has thought of."""
    log.warning("Lora: %s cannot be used", tag.name, exc_info=error)
    reason = f"{type(error).__name__}: {first_line(error)[:200]}"
    return AdapterReport(tag, problem=f"{tag.name}: cannot be used ({reason}); the others are", entry=entry)


def _add(read: dict[int, Active], place: int, active: Active) -> None:
    """The same file twice adds up: weights are summed at the place of the first tag."""
    tag = active.tag
    for earlier, same in read.items():
        first = same.tag
        if same.adapter is active.adapter and first.dyn == tag.dyn:
            total = replace(first, te=first.te + tag.te, unet=first.unet + tag.unet,
                            force=first.force or tag.force, notes=first.notes + tag.notes)
            read[earlier] = replace(same, tag=total)
            return
    read[place] = active
