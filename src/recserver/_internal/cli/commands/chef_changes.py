"""``recserver chefs``: the commands that need a running server."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument, Option

from recserver._internal.cli.command import AsJson, UsageError, command
from recserver._internal.cli.requests import Assignments, Overwrite, Url, parse_assignments, send


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the group."""
    command(app, "add")(add_chef)
    command(app, "delete")(delete_chef)


async def add_chef(
    data_chef_id: Annotated[str, Argument(metavar="ID", help="Its id.")],
    source: Annotated[
        str | None, Argument(metavar="SOURCE", help="A file, the URL of JSON, or with --query that of a database.")
    ] = None,
    *,
    query: Annotated[str | None, Option(help="A SELECT; without SOURCE of the server's default database.")] = None,
    rename: Annotated[
        str | None, Option(metavar="OLD->NEW,...", help="Such as 'customer->user_id,product->item_id'.")
    ] = None,
    fields: Assignments = None,
    overwrite: Overwrite = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Add a data chef to a running server: a file, a query of a database, or JSON over HTTP.

    --set gives any other field, such as --set delimiter=';' or --set paginated=true.
    """
    endpoint, definition = _definition(source, query)
    common: dict[str, Any] = {"data_chef_id": data_chef_id, "rename_columns": rename, "overwrite": overwrite}
    await send("POST", endpoint, url, as_json=as_json, **(parse_assignments(fields) | definition | common))


async def delete_chef(
    data_chef_id: Annotated[str, Argument(metavar="ID", help="The data chef.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a data chef of a running server. Tasks that read it stay, and do not run without it."""
    await send("DELETE", "delete_data_chef", url, as_json=as_json, data_chef_id=data_chef_id)


def _definition(source: str | None, query: str | None) -> tuple[str, dict[str, Any]]:
    """The endpoint that creates a data chef of a source, and the fields that say where it is.

    Raises:
        UsageError: if neither a source nor a query is given.
    """
    if query is not None:
        return "create_data_chef_from_sql", {"query": query, "connection": source}
    if source is None:
        raise UsageError("No source is given: name a file or a URL, or give a --query.")
    if source.startswith(("http://", "https://")):
        return "create_data_chef_from_api", {"url": source}
    if "://" in source:
        raise UsageError("The URL of a database needs a --query.")
    return "create_data_chef_from_csv", {"file_path": source}
