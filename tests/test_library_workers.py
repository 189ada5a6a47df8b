"""Files read by several processes say what they say when this process reads them."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from lib_lora.library import Library, workers
from lib_lora.library.ahead import ahead, behind
from lib_lora.library.files import walk
from lib_lora.library.reading import Learnt, fetch, read_texts
from tests.adapter_files import write
from tests.hostile_files import write_hostile_files

FILES = 40


@pytest.fixture
def folder(tmp_path):
    """Sound files, notes, and everything hostile that is known."""
    path = tmp_path / "Lora"
    for number in range(FILES):
        tags = json.dumps({"10_x": {f"tag {number}": 3, "all": 20}})
        write(path / f"{number % 3}" / f"ink {number:02}.safetensors", metadata={"ss_tag_frequency": tags})
    (path / "0" / "ink 00.json").write_text(json.dumps({"notes": "mine"}))
    (path / "hostile").mkdir()
    write_hostile_files(path / "hostile")
    return path


@pytest.fixture
def many(monkeypatch):
    """From here on, a few files are many."""
    monkeypatch.setattr(workers, "ENOUGH", 2)
    monkeypatch.setattr(workers, "CHUNK", 5)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def here(files):
    learnt = Learnt()
    return [(each, read_texts(each, fetch(each), learnt)) for each in files]


def test_several_processes_say_what_one_says(folder, many, monkeypatch):
    started = []
    ask = workers._ask
    monkeypatch.setattr(workers, "_ask", lambda worker, files: started.append(worker.pid) or ask(worker, files))
    files = list(walk([folder]))
    assert list(workers.read_all(files)) == here(files)
    assert len(set(started)) == 2
    assert len(files) > FILES


def test_a_library_read_by_several_processes_finds_what_it_would_find_alone(folder, many):
    told = []
    library = Library([folder])
    result = library.refresh(lambda done, total: told.append((done, total)))
    assert library.find("ink 07").trained_tags == (("all", 20), ("tag 7", 3))
    assert library.find("ink 00").details.notes == "mine"
    assert (result.added, told[-1][0]) == (told[-1][1], told[-1][1])
    library.close()


def test_what_a_dead_worker_leaves_is_read_here(folder, many, monkeypatch):
    start = workers._start

    def start_and_kill():
        worker = start()
        worker.kill()
        worker.wait()
        return worker

    monkeypatch.setattr(workers, "_start", start_and_kill)
    files = list(walk([folder]))
    assert list(workers.read_all(files)) == here(files)


def test_what_a_worker_says_that_is_no_answer_is_read_here(folder, many, monkeypatch):
    monkeypatch.setattr(workers, "PROGRAM", "print('hello'); import sys; sys.stdin.read()")
    files = list(walk([folder]))
    assert list(workers.read_all(files)) == here(files)


@pytest.mark.parametrize("executable", ["", "/opt/painter/painter", "/nowhere/python"])
def test_where_no_python_can_be_started_files_are_read_here(folder, many, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    files = list(walk([folder]))
    assert list(workers.read_all(files)) == here(files)


def test_workers_end_with_their_work(folder):
    with workers.Workers(2) as both:
        assert len(both.read(list(walk([folder]))[:3])) == 3
    assert all(worker.poll() is not None for worker in both._all)


def test_what_is_fetched_ahead_keeps_its_order_and_its_errors():
    assert list(ahead(range(100), str, threads=3)) == [(number, str(number)) for number in range(100)]
    waiting = ahead([1, 0, 2], lambda number: 6 // number)
    assert next(waiting) == (1, 6)
    with pytest.raises(ZeroDivisionError):
        next(waiting)


def test_what_is_done_behind_is_done_in_order_while_the_next_is_made():
    here, done = threading.get_ident(), []

    def work(number):
        assert threading.get_ident() != here
        done.append(number)
        return number * 2

    assert list(behind(iter(range(5)), work)) == [0, 2, 4, 6, 8]
    assert done == [0, 1, 2, 3, 4]
