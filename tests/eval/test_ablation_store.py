"""The work folder of many fits: nothing lost, nothing done twice, whatever is killed."""

import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from eval.ablation_store import Store, digest, source_digest


def record(key: str, value: float = 1.0) -> dict:
    return {"key": key, "figures": {"psnr": value}}


def test_append_and_read(tmp_path: Path):
    store = Store(tmp_path)
    assert store.read() == {}
    store.append(record("a"))
    store.append(record("b", 2.0))
    store.append(record("a", 3.0))  # a later line wins
    assert {key: line["figures"]["psnr"] for key, line in Store(tmp_path).read().items()} == {"a": 3.0, "b": 2.0}


def test_a_half_written_line_is_passed_over_and_closed(tmp_path: Path):
    store = Store(tmp_path)
    store.append(record("a"))
    with store.lines.open("a") as file:
        file.write(json.dumps(record("b"))[:11])  # killed while writing
    assert set(store.read()) == {"a"}
    store.append(record("c"))
    assert set(store.read()) == {"a", "c"}


def test_values_that_are_not_numbers_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path).append(record("a", float("nan")))


def test_claims_exclude_finished_and_running_work(tmp_path: Path):
    store = Store(tmp_path)
    with store.claim("a") as mine:
        assert mine
        with Store(tmp_path).claim("a") as theirs:
            assert not theirs
        with store.claim("b") as other:
            assert other
        store.append(record("a"))
    with store.claim("a") as again:
        assert not again


def _die_with_a_claim(folder: Path) -> None:
    import os

    with Store(folder).claim("a"):
        os._exit(9)


def test_a_claim_dies_with_its_process(tmp_path: Path):
    process = multiprocessing.get_context("spawn").Process(target=_die_with_a_claim, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    with Store(tmp_path).claim("a") as mine:
        assert mine


def test_tensors_are_made_once_per_key(tmp_path: Path):
    store, calls = Store(tmp_path), []

    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"x": torch.arange(6.0).reshape(2, 3).T}

    first = store.tensors("name", {"seed": 0}, make)
    second = Store(tmp_path).tensors("name", {"seed": 0}, make)
    assert len(calls) == 1 and torch.equal(first["x"], second["x"])
    store.tensors("name", {"seed": 1}, make)
    assert len(calls) == 2


def test_digests_follow_content_not_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    assert len(digest("x")) == 16


def test_source_digest_ignores_words_and_sees_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("eval.ablation_store.PACKAGE", tmp_path)
    (tmp_path / "motion").mkdir()
    file = tmp_path / "motion" / "a.py"

    def of(text: str) -> str:
        file.write_text(text)
        return source_digest(("motion",))

    plain = of('"""Words."""\ndef f(x):\n    """More."""\n    return x + 1\n')
    assert of('"""Other words."""\n\n\ndef f(x):  # why\n    """Else."""\n    return (x + 1)\n') == plain
    assert of('"""Words."""\ndef f(x):\n    """More."""\n    return x + 2\n') != plain
