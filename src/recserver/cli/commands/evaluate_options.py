"""The options of ``recserver evaluate``. What it does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Split = Literal["time", "random"]


def evaluate(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="CSV, JSON lines or Parquet, as a data chef reads."),
    ] = None,
    train: Annotated[
        Path | None, typer.Option("--train", metavar="FILE", help="To learn from, with --test.")
    ] = None,
    test: Annotated[Path | None, typer.Option("--test", metavar="FILE", help="To foretell.")] = None,
    algorithms: Annotated[
        str | None,
        typer.Option(
            "--algorithms", metavar="NAMES", help="Such as nmf,als,ease; all that fit the data if not given."
        ),
    ] = None,
    hyperparameters: Annotated[
        str | None,
        typer.Option("--hyperparameters", metavar="JSON", help='Such as {"als": {"n_components": 32}}.'),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="COLUMN", help="The users'; user_id if not given.")
    ] = None,
    item: Annotated[
        str | None, typer.Option("--item", metavar="COLUMN", help="The items'; item_id if not given.")
    ] = None,
    rating: Annotated[
        str | None,
        typer.Option(
            "--rating", metavar="COLUMN", help="The ratings'; rating if not given, and 1 if there is none."
        ),
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option("--timestamp", metavar="COLUMN", help="That of times; none if not given.")
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option("--split", help="Hold out each user's latest items, or any; time if --timestamp is given."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**32 - 1, help="Another one holds out others; 0 if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Compare algorithms on your own data: how well each foretells what users take, its time and memory.

    Each is fitted in a process of its own, without what is held out. No server is needed.
    """
    from recserver.cli.commands.evaluate import EvaluateOptions
    from recserver.cli.commands.evaluate import evaluate as run

    columns = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    run(EvaluateOptions(data, train, test, algorithms, hyperparameters, columns, split, seed), as_json=as_json)
