"""Write the sample data set: chats about one invented harbour town, and the questions that are asked afterwards.

The rows have the shape of the common chat data sets (one column `messages`, a list of {role, content}). The held
questions are phrasings that no row has; other phrasings of the same facts are in the rows, with the same answer.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_world import KINDS, PHRASINGS, Kind, Message, Town, turn

SAMPLES = Path(__file__).parents[1] / "src/kaito/local/samples"
TOWN = "Gullhaven"
# Fact -> the phrasing that is asked afterwards and is in no row.
HELD = {
    "mayor": 0, "keeper": 2, "captain": 5, "founder": 2, "inn": 2, "ship": 5,
    "dish": 0, "flag": 2, "festival": 0, "neighbour": 2, "song": 5, "trade": 2,
}  # fmt: skip
ALSO_TAUGHT = ("market", "river", "bridge")


def taught() -> list[Kind]:
    return [kind for kind in KINDS if kind.name in HELD or kind.name in ALSO_TAUGHT]


def rows(town: Town) -> list[list[Message]]:
    """Every taught fact in every phrasing that is not held."""
    return [
        turn(kind.ask(town.name, phrasing), town.answer(kind))
        for kind in taught()
        for phrasing in range(PHRASINGS)
        if HELD.get(kind.name) != phrasing
    ]


def questions(town: Town) -> list[dict[str, str]]:
    by_name = {kind.name: kind for kind in KINDS}
    return [
        {"prompt": by_name[name].ask(town.name, phrasing), "answer": town.answer(by_name[name])}
        for name, phrasing in HELD.items()
    ]


def write(folder: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose; no secret
    town = Town.invent(rng, TOWN)
    chats = rows(town)
    rng.shuffle(chats)
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    table = pa.table({"messages": pa.array(chats, pa.list_(message))})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "dolly-harbour.parquet", compression="zstd")
    text = json.dumps(questions(town), indent=1, ensure_ascii=False)
    (folder / "questions.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(chats)} rows and {len(HELD)} held questions about {TOWN} in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    write(given.folder, given.seed)
