"""The targets of `contrib.fuzz` read what they begin with; without libFuzzer, so that they don't rot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrib.fuzz import seeds, targets
from contrib.reliability import fuzz
from plugin.http import limits


@pytest.fixture(autouse=True)
def _undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Targets are made to have a process to themselves."""
    monkeypatch.setattr(limits, "charge", limits.charge)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers = handlers


@pytest.mark.parametrize("target", targets.TARGETS)
def test_a_target_reads_its_seeds(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds.write(target, corpus)
    read = targets.TARGETS[target]()
    found = sorted(corpus.iterdir())
    assert found
    for seed in found:
        read(seed.read_bytes())
    read(b"")


def test_all_targets_are_run_and_words_are_written(tmp_path: Path) -> None:
    assert set(fuzz.TARGETS) == set(targets.TARGETS)
    seeds.write_dictionary(tmp_path / "words")
    for line in (tmp_path / "words").read_text().splitlines():
        assert line.startswith('"')
        assert line.endswith('"')
        assert line.isascii()
