"""Model files with all kinds of damage: nothing crashes, nothing is executed, and all other models serve."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.errors import RecServerError
from tests.helpers.model_files import put_model

VICTIM, OTHERS = "victim", ("first", "second")
FILES = (f"{VICTIM}.pkl", f"{VICTIM}_config.json", f"{VICTIM}_metadata.json")
WRONG = (b"", b"[]", b"null", b"0", b"{}", b'{"status": 7}', b'{"algorithm": []}', b"\xff\xfe", b"[" * 100_000)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, (f"__import__('os').mkdir({str(self.folder)!r})",)


Damage = Callable[[Path, random.Random], None]


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def overwrite_a_stretch(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    start = chance.randrange(len(content))
    stretch = chance.randbytes(chance.randint(1, 200))
    path.write_bytes(content[:start] + stretch + content[start + len(stretch) :])


def put_something_else(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.choice(WRONG))


def put_a_pickle(path: Path, chance: random.Random) -> None:
    evil = pickle.dumps(Evil(path.parent / "executed"), chance.randint(0, 5))
    genuine = path.read_bytes()
    at = chance.choice((0, 4, len(genuine) // 2, len(genuine)))
    path.write_bytes(genuine[:at] + evil)


def swap_with_another(path: Path, chance: random.Random) -> None:
    other = path.with_name(chance.choice(FILES))
    content = path.read_bytes(), other.read_bytes()
    path.write_bytes(content[1])
    other.write_bytes(content[0])


def put_a_symlink(path: Path, chance: random.Random) -> None:
    target = chance.choice((path.name, "nowhere", "/dev/zero", "/proc/self/mem", "..", f"{OTHERS[0]}.pkl"))
    path.unlink()
    path.symlink_to(target)


def put_a_fifo(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def put_a_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


DAMAGES: tuple[Damage, ...] = (
    cut, flip, overwrite_a_stretch, put_something_else, put_a_pickle,
    swap_with_another, put_a_symlink, put_a_fifo, put_a_folder, remove,
)  # fmt: skip


def put_back(models: Path, good: dict[str, bytes]) -> None:
    """The files as they were, in place of whatever is there."""
    for name, content in good.items():
        path = models / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(content)


async def ask_about(rec: RecServer, *, forgotten: bool) -> int:
    """Ask for everything that reads the victim's files. It may be refused with a sentence, and with nothing else.

    Returns:
        How much was refused.
    """
    refused = 0
    if forgotten:
        rec._services.model_cache.remove(VICTIM)
    for question in (
        rec._services.model_cache.refresh,
        rec.list_models,
        lambda: rec.get_model_info(VICTIM),
        lambda: rec.recommend("u0", model_id=VICTIM),
    ):
        try:
            await question()
        except RecServerError as error:
            assert len(str(error)) > 10 and "Traceback" not in str(error)
            refused += 1
    return refused


async def damage_over_and_over(data_dir: Path, cases: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    chance, models = random.Random(seed), data_dir / "models"
    for number, name in enumerate((VICTIM, *OTHERS)):
        put_model(models, name, seed=number)
    (models / f"{VICTIM}_metadata.json").write_text('{"model_version": 1}')
    good = {name: (models / name).read_bytes() for name in FILES}
    settings = Settings(port=0, training_processes=1, rescan_seconds=3600)
    async with RecServer(data_dir, settings) as rec:
        expected = {name: (await rec.recommend("u0", model_id=name))["predictions"] for name in (VICTIM, *OTHERS)}
        refused = 0
        for number in range(cases):
            damage = DAMAGES[number % len(DAMAGES)]
            path = models / FILES[number // len(DAMAGES) % len(FILES)]
            await asyncio.to_thread(damage, path, chance)
            for name in OTHERS:  # loaded again, beside the damage
                rec._services.model_cache.remove(name)
            refused += await ask_about(rec, forgotten=chance.random() < 0.8)
            for name in OTHERS:
                answer = (await rec.recommend("u0", model_id=name))["predictions"]
                assert answer == expected[name], (number, damage.__name__, path.name)
            assert not (models / "executed").exists(), (number, damage.__name__, path.name)
            await asyncio.to_thread(put_back, models, good)
            rec._services.model_cache.remove(VICTIM)
            answer = (await rec.recommend("u0", model_id=VICTIM))["predictions"]
            assert answer == expected[VICTIM], (number, damage.__name__, path.name)
    assert refused > cases / 5  # a third of the damage is to the model file; else none was noticed


def test_the_pickle_is_harmful(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.slow
async def test_300_damages(data_dir: Path) -> None:
    await damage_over_and_over(data_dir, 300)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_3000_damages(data_dir: Path) -> None:
    await damage_over_and_over(data_dir, 3000)
