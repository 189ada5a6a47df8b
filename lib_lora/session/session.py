"""Session: what one model carries now. State the tags; the session makes the model so and reports what happened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

from lib_lora.adapters.adapter import Adapter
from lib_lora.adapters.cache import AdapterCache
from lib_lora.engine.active import Active
from lib_lora.engine.call import Size
from lib_lora.engine.report import AdapterReport, Entry
from lib_lora.engine.schedule import Encoding, Schedule, schedule
from lib_lora.errors import LoraError, NotFoundError, PatchError, first_line
from lib_lora.formats.text import printable
from lib_lora.grammar.curve import first
from lib_lora.grammar.moment import START, Moment
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import Row, Stage
from lib_lora.session.finder import Answer, Finder, family_of, look_up
from lib_lora.session.host import Host, RowHost
from lib_lora.session.wanted import Wanted

log = logging.getLogger("lib_lora")


@dataclass(frozen=True)
class Report:
    """What became of every tag of one `activate`."""

    adapters: tuple[AdapterReport, ...] = ()
    problems: tuple[str, ...] = ()  # sentences that belong to no single adapter
    unread: tuple[tuple[str, ...], ...] = ()  # those of them that are about one picture's tags, for each picture

    def of(self, image: int) -> Report:
        """As far as it concerns one picture of a batch: the adapters that act on it, what is wrong with its tags."""
        own = set(self.unread[image]) if image < len(self.unread) else set()
        others = {sentence for sentences in self.unread for sentence in sentences} - own
        adapters = tuple(each for each in self.adapters if each.who.images is None or image in each.who.images)
        return Report(adapters, tuple(sentence for sentence in self.problems if sentence not in others))

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
    """One model, the adapters it carries, and the report of the last change.

    What varies in time or from row to row is told by whoever samples: `advance` before each call of the UNet, `rows`
    for its rows, `encode` around the text encoders. All three do nothing where nothing varies, and a host that has
    nothing of it need not call them (`varies`, `restricts`, `tells_encodings_apart`).
    """

    def __init__(self, host: Host, finder: Finder, *, cache: AdapterCache | None = None) -> None:
        self.host = host
        self.finder = finder
        self.cache = cache or AdapterCache()
        self.report = Report()
        self.schedule = Schedule()
        self._moment = START
        self._encoding = Encoding()
        self._active: tuple[Adapter, ...] = ()  # what is in use stays in memory, however many the cache keeps
        self._held: Callable[[], AbstractContextManager[None]] = getattr(host, "held", nullcontext)

    def look_up(self, tags: Iterable[LoraTag]) -> dict[str, Answer]:
        """What the names in `tags` mean, for who wants to know it before `activate`, which takes it over."""
        return look_up(self.finder, (tag.name for tag in tags))

    def activate(
        self,
        wanted: Sequence[LoraTag] | Wanted,
        errors: Sequence[LoraError] = (),
        *,
        answers: Mapping[str, Answer] | None = None,
    ) -> Report:
        """Make the model carry exactly the tags of `wanted`, as at the beginning; none restores every base weight.

        A sequence of tags is one for all pictures; a Wanted says more. Never raises for a bad adapter: it is left out,
        its report says why, and the others work. `errors` are tags that could not be read; they go into the report.
        `answers`: what `look_up` said of these tags, if it was asked. Raises TypeError if the host makes all rows of a
        batch alike and the tags ask for something else.
        """
        if not isinstance(wanted, Wanted):
            wanted = Wanted((tuple(wanted),))
        with self._held():
            read, reports = self._read(wanted, self.look_up(wanted.tags) if answers is None else answers)
            self._moment, self._encoding = START, Encoding()
            self._forget_rows()
            also, problems = self._apply(read, wanted.stage)
            reports |= also
            self._active = tuple(each.adapter for each in read.values())
            unread = tuple(tuple(map(str, of_image)) for of_image in wanted.errors)
            told = dict.fromkeys(sentence for of_image in unread for sentence in of_image)
            self.report = Report(
                tuple(reports[place] for place in sorted(reports)), (*map(str, errors), *told, *problems), unread
            )
            return self.report

    @property
    def varies(self) -> bool:
        """True if `advance` has something to do within a picture."""
        return self.schedule.varies

    @property
    def restricts(self) -> bool:
        """True if the rows of each call of the UNet must be told by `rows`."""
        return self.schedule.restricts

    @property
    def tells_encodings_apart(self) -> bool:
        """True if text encoders must run inside of `encode`."""
        return self.schedule.tells_encodings_apart

    def advance(self, moment: Moment) -> None:
        """Make the UNet carry what is due at `moment`. Raises PatchError, with every base weight back in place."""
        if not self.varies or moment == self._moment:
            return
        with self._held():
            self._moment = moment
            self._follow()

    def rows(self, rows: Sequence[Row], size: Size | None = None) -> None:
        """Of the next call of the UNet, in order; a layer that sees a multiple of them has that many of each.

        `size`: height and width of the latent, needed where something acts on a part of the picture.
        """
        if (self.restricts or self.varies) and isinstance(self.host, RowHost):
            self.host.rows(rows, size)

    def segments(self, row: Row, steps: int, calls: int = 1) -> list[tuple[int, Encoding]]:
        """The encodings that the text of `row` needs in a pass of `steps`: `(the first step after it, which)`.

        Where a step is several `calls` of the UNet, calls are counted instead of steps.
        """
        return self.schedule.segments(row, steps, calls)

    @contextmanager
    def encode(self, encoding: Encoding) -> Iterator[None]:
        """Text encoders that run meanwhile carry what is due in that run."""
        if self.tells_encodings_apart:
            with self._held():
                self._encoding = encoding
                self._follow()
        yield

    def _follow(self) -> None:
        try:
            self.host.apply(self.schedule.at(self._moment, self._encoding))
        except PatchError as error:
            self.schedule = Schedule()
            self.report = replace(self.report, problems=(*self.report.problems, str(error)))
            raise

    def _read(
        self, wanted: Wanted, answers: Mapping[str, Answer]
    ) -> tuple[dict[int, Active], dict[int, AdapterReport]]:
        """`(what can be applied, the reports of what cannot)`, by place in the prompt."""
        read: dict[int, Active] = {}
        reports: dict[int, AdapterReport] = {}
        for place, (tag, who) in enumerate(wanted.each()):
            answer = answers[tag.name]
            try:
                active = replace(self._found(tag.settled(wanted.presets), answer), who=who)
            except LoraError as error:
                reports[place] = AdapterReport(tag, problem=str(error), entry=answer.entry, who=who)
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

    def _plan(self, read: dict[int, Active], stage: Stage) -> tuple[Schedule, dict[int, AdapterReport]]:
        """`(the schedule of `read`, the reports of what nobody can plan)`; that is taken out of `read`."""
        if not read:
            return Schedule(), {}
        index = self.host.targets()
        try:
            return schedule(list(read.values()), index, stage), {}
        except Exception:
            reports = {}
            for place, each in list(read.items()):
                try:
                    schedule([each], index, stage)
                except Exception as error:
                    reports[place] = _broken(each.tag, error, each.entry)
                    del read[place]
            return schedule(list(read.values()), index, stage), reports

    def _apply(self, read: dict[int, Active], stage: Stage) -> tuple[dict[int, AdapterReport], list[str]]:
        """Apply all of `read`, or those that are left without the ones whose arithmetic fails; also other problems."""
        planned, unbound = self._plan(read, stage)
        if planned.restricts and not isinstance(self.host, RowHost):
            raise TypeError(f"{type(self.host).__name__} makes all pictures of a batch with the same adapters")
        reports = unbound | dict(zip(read, planned.reports, strict=True))
        self.schedule = planned
        try:
            self.host.apply(planned.at(START))
        except PatchError as error:
            self.schedule = Schedule()
            if not read:
                return reports, [str(error)]  # the base weights could not be put back
            guilty = [place for place, each in read.items() if each.tag.name == error.source] or list(read)
            others = {place: each for place, each in read.items() if place not in guilty}
            for place in guilty:
                reports[place] = replace(reports[place], problem=reports[place].problem or str(error))
            also, problems = self._apply(others, stage)
            return reports | also, problems
        return reports, []

    def clear(self) -> None:
        """The untouched model."""
        self.activate(())

    def abandon(self) -> None:
        """The untouched model, in mid-picture. The report stays: it tells of what had been active."""
        with self._held():
            self.schedule, self._active = Schedule(), ()
            self._forget_rows()
            self.host.apply(self.schedule.at(START))

    def _forget_rows(self) -> None:
        if isinstance(self.host, RowHost):
            self.host.rows(())


def _broken(tag: LoraTag, error: Exception, entry: Entry | None) -> AdapterReport:
    """Of an adapter that nothing else should suffer from: a fault of ours, or a file that nobody has thought of."""
    log.warning("Lora: %s cannot be used", tag.name, exc_info=error)
    reason = f"{type(error).__name__}: {first_line(error)[:200]}"
    return AdapterReport(tag, problem=f"{tag.name}: cannot be used ({reason}); the others are", entry=entry)


def _add(read: dict[int, Active], place: int, active: Active) -> None:
    """The same file twice adds up: weights are summed at the place of the first tag."""
    tag = active.tag
    for earlier, same in read.items():
        before = same.tag
        if (same.adapter is active.adapter and before.dyn == tag.dyn and same.who == active.who
                and before.is_plain and tag.is_plain):  # fmt: skip
            total = replace(before, te=first(before.te) + first(tag.te), unet=first(before.unet) + first(tag.unet),
                            force=before.force or tag.force, notes=before.notes + tag.notes)
            read[earlier] = replace(same, tag=total)
            return
    read[place] = active
