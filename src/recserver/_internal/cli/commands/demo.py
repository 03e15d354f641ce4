"""``recserver demo``: the whole workflow through the HTTP API, with generated data."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated, Any

from rich.markup import escape
from rich.table import Table
from typer import Option

from recserver._internal.cli.client import Client, connect
from recserver._internal.cli.command import new_app
from recserver._internal.cli.commands import demo_data
from recserver._internal.cli.output import console
from recserver._internal.cli.run_progress import BarDisplay, RunProgress
from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.core.events import RunEnded, RunProgressed
from recserver._internal.server.rec_server import RecServer
from recserver._internal.server.settings import load_settings
from recserver._internal.server.workers.process_setup import stop_event
from recserver._internal.storage.folder_lock import require_unlocked

GUESTS = ("Ana", "Ben", "Chloe", "Dario")
MODEL, TASK = "restaurants", "train_restaurants"
RENAMES = "guest->user_id,restaurant->item_id,stars->rating"

app = new_app()


@app.command()
def demo(
    data: Annotated[Path, Option(help="Folder for the demo's files.")] = Path("recserver-demo"),
    port: Annotated[int, Option(help="Port to listen on; 0 for a free one.")] = 0,
    keep: Annotated[bool, Option("--keep", help="Keep serving until stopped.")] = False,
) -> None:
    """Make a small restaurant data set, train on it through the HTTP API, and show recommendations."""
    visits = demo_data.visits()
    require_unlocked(data)  # a demo that is still serving may use the files that are written below
    try:
        data.mkdir(parents=True, exist_ok=True)
        demo_data.write_csv(data / "visits.csv", visits)
        (data / "tasks" / f"{TASK}.json").unlink(missing_ok=True)  # a task of an earlier demo would start to train
    except OSError as error:
        raise ServerCannotStart(f"Cannot write to {data} ({error.strerror}): choose another --data.") from None
    asyncio.run(_demo(data, visits, port=port, keep=keep))


async def _demo(data: Path, visits: list[demo_data.Visit], *, port: int, keep: bool) -> None:
    console.print(
        f"Made [bold]{escape(str(data / 'visits.csv'))}[/]: {len(visits)} visits of {demo_data.N_GUESTS} guests.\n"
    )
    server = RecServer(data, load_settings(host="127.0.0.1", port=port))
    async with server.serve() as url, connect(url) as client:
        console.print(f"Serving on [bold]{url}[/]. The requests of the workflow:\n")
        await _train(server, client)
        await _print_recommendations(client, demo_data.liked(visits))
        _print_next_steps(server, data, url, keep)
        if keep:
            await stop_event().wait()


async def _train(server: RecServer, client: Client) -> None:
    steps: dict[str, dict[str, Any]] = {
        "create_model": {
            "model_id": MODEL, "model_name": "Restaurants you would like", "algorithm": "nmf",
            "hyperparameters": {"n_components": 6},
        },
        "create_data_chef_from_csv": {
            "data_chef_id": "visits", "file_path": "visits.csv", "rename_columns": RENAMES,
        },
        "add_model_task": {"task_name": TASK, "model_id": MODEL, "data_chef_id": "visits", "interval": 3600},
    }  # fmt: skip
    with server.events.listen() as events:
        for path, body in steps.items():
            response = await client.post(path, **body, overwrite=True)
            console.print(f"  POST /{path}  ->  200 {response['message']}", markup=False)
        console.print()
        with BarDisplay(console) as bar:
            async for event in events:
                if isinstance(event, RunEnded) and event.model_id == MODEL:
                    break
                if isinstance(event, RunProgressed) and event.model_id == MODEL:
                    bar.show(RunProgress(stage=event.stage, rows_read=event.rows_read))
    info = await client.get("get_model_info", model_id=MODEL)
    if info["status"] != "completed":
        raise ServerCannotStart(f"The demo's training ended with status {info['status']}: {info.get('error')}")
    metrics = info["model_metrics"]
    console.print(
        f"\nModel [bold]restaurants[/], version {info['model_version']}: {metrics['n_users']} guests, "
        f"{metrics['n_items']} restaurants, {metrics['n_interactions']} visits, {metrics['training_time']} s.\n"
    )


async def _print_recommendations(client: Client, liked: dict[str, list[demo_data.Visit]]) -> None:
    table = Table("Guest", "Liked", "GET /recommend", title="Recommendations", show_lines=True)
    for guest in (*GUESTS, "a new guest"):
        response = await client.get("recommend", user_id=guest, model_id=MODEL, n=4)
        best = [item["item_id"] for item in response["predictions"][guest]]
        visited = [visit.item_id for visit in liked.get(guest, [])[:4]]
        source = "" if response["source"] == "personal" else f"\n({response['source']}: a cold-start user)"
        table.add_row(guest, _format_places(visited) or "unknown", _format_places(best) + source)
    console.print(table)


def _format_places(places: list[str]) -> str:
    return "\n".join(f"{place}  [dim]{demo_data.cuisine_of(place)}[/]" for place in places)


def _print_next_steps(server: RecServer, data: Path, url: str, keep: bool) -> None:
    console.print(f"\nThe files are in [bold]{escape(str(data))}/[/]:")
    for path, description in (
        ("visits.csv", "the data"),
        ("config/restaurant_data.yaml", "the data chef that reads it"),
        (f"tasks/{TASK}.json", "the task: train every hour"),
        (f"models/{MODEL}.pkl", "the trained model, with its _config.json and _metadata.json"),
    ):
        console.print(f"  {path:<30} {description}")
    key = ' -H "X-API-Key: $RECSERVER_API_KEY"' if server.settings.api_key else ""
    request = (
        f"  curl{key} '{url if keep else 'http://localhost:9999'}/recommend?user_id=Ana&model_id={MODEL}&n=5'"
    )
    if keep:
        console.print("\nServing until Ctrl-C. Try:")
    else:
        console.print("\nNext steps:")
        console.print(f"  recserver serve --data {shlex.quote(str(data))}", markup=False)
    console.print(request, markup=False)
