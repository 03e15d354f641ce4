"""The options of ``recserver recommend``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OptionalList = list[str] | None


def recommend(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="For whom; or --all.")] = None,
    *,
    data: Annotated[
        Path,
        typer.Option(
            "--data", envvar="RECSERVER_DATA", help="Data folder, with models/; it must be there already."
        ),
    ] = Path("data"),
    model_id: Annotated[str | None, typer.Option("--model", help="The model, if there are several.")] = None,
    n: Annotated[str | None, typer.Option("-n", help="How many items at most, 1 to 1000 [10].")] = None,
    conditions: Annotated[
        OptionalList,
        typer.Option("--filter", help="What items must fulfil: genre=Comedy, price<20; several times."),
    ] = None,
    exclude: Annotated[
        OptionalList, typer.Option("--exclude", help="An item to leave out; several times.")
    ] = None,
    candidates: Annotated[
        OptionalList, typer.Option("--candidate", help="The only items that may come; several times.")
    ] = None,
    boost: Annotated[
        OptionalList, typer.Option("--boost", help="Raise or lower scores: genre=Comedy*1.5; several times.")
    ] = None,
    max_per: Annotated[
        OptionalList, typer.Option("--max-per", help="So many of each value at most: genre:2; several times.")
    ] = None,
    diversity: Annotated[
        str | None, typer.Option("--diversity", help="0 to 1: by score alone to by unlikeness alone [0].")
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also what the user interacted with.")
    ] = False,
    fallback: Annotated[
        str | None,
        typer.Option("--fallback", help="What an unknown user gets: overall, recent (popular of late) or none."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Which of the user's own items each comes from.")
    ] = False,
    all_users: Annotated[
        bool, typer.Option("--all", help="For every user that the model knows, into --out.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="With --all: a file ending in .parquet, .csv, .csv.gz or .jsonl, or a database's URL."
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="With a database's URL: the table (recommendations).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show what a model recommends to a user, or write what it recommends to everybody. No server is needed.

    In a table, the model's rows are replaced in one transaction; a table that is missing is made.
    """
    from recserver.cli.commands.recommend import RecommendOptions, recommend_all, recommend_one

    wishes = {
        "n": n, "filter": conditions, "exclude": exclude, "candidates": candidates, "boost": boost,
        "max_per": max_per, "diversity": diversity, "exclude_seen": not include_seen,
    }  # fmt: skip
    asked = RecommendOptions(
        data, model_id, {name: value for name, value in wishes.items() if value not in (None, [])}
    )
    if all_users:
        recommend_all(
            asked, user=user, out=out, table=table, single_user_option=fallback or explain, as_json=as_json
        )
    else:
        recommend_one(
            asked, user=user, export_option=out or table, fallback=fallback, explain=explain, as_json=as_json
        )
