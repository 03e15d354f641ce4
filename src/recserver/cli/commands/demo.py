"""``recserver demo``: the whole workflow through the HTTP API, on data made for it."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from recserver.cli.commands import demo_data
from recserver.core.errors import ServerCannotStart
from recserver.core.events import RunEnded, RunProgressed
from recserver.server.rec_server import RecServer
from recserver.server.settings import load_settings
from recserver.server.workers.process_setup import stop_event
from recserver.storage.folder_lock import require_unlocked

GUESTS = ("Ana", "Ben", "Chloe", "Dario")
MODEL, TASK = "restaurants", "train_restaurants"
RENAMES = "guest->user_id,restaurant->item_id,stars->rating"
STAGES = ("waiting", "starting", "reading", "evaluating", "fitting", "packing", "validating", "publishing")

console = Console(highlight=False, soft_wrap=True)


def demo(data: Path, *, port: int, keep: bool) -> None:
    """Run the demo; afterwards serve on if ``keep``.

    Raises:
        ServerCannotStart: if the folder, the port or the settings do not allow it.
    """
    visits = demo_data.visits()
    require_unlocked(data)  # the files that are written below may be those of a demo that still serves
    try:
        data.mkdir(parents=True, exist_ok=True)
        demo_data.write_csv(data / "visits.csv", visits)
        (data / "tasks" / f"{TASK}.json").unlink(missing_ok=True)  # of an earlier demo: it would begin to train
    except OSError as error:
        raise ServerCannotStart(f"Cannot write to {data} ({error.strerror}): choose another --data.") from None
    asyncio.run(_demo(data, visits, port=port, keep=keep))


async def _demo(data: Path, visits: list[demo_data.Visit], *, port: int, keep: bool) -> None:
    console.print(
        f"Made [bold]{escape(str(data / 'visits.csv'))}[/]: {len(visits)} visits of {demo_data.N_GUESTS} guests.\n"
    )
    server = RecServer(data, load_settings(host="127.0.0.1", port=port))
    async with server.serve() as url, aiohttp.ClientSession(url, headers=_auth_headers(server)) as http:
        console.print(f"Serving on [bold]{url}[/]. The workflow, as anyone would send it:\n")
        await _train(server, http)
        await _print_recommendations(http, demo_data.liked(visits))
        _print_next_steps(server, data, url, keep)
        if keep:
            await stop_event().wait()


def _auth_headers(server: RecServer) -> dict[str, str]:
    key = server.settings.api_key
    return {"X-API-Key": key.get_secret_value()} if key else {}


async def _train(server: RecServer, http: aiohttp.ClientSession) -> None:
    with server.events.listen() as events:
        await _post(
            http,
            "/create_model",
            model_id=MODEL,
            model_name="Restaurants you would like",
            algorithm="nmf",
            hyperparameters={"n_components": 6},
            overwrite=True,
        )
        await _post(
            http,
            "/create_data_chef_from_csv",
            data_chef_id="visits",
            file_path="visits.csv",
            rename_columns=RENAMES,
            overwrite=True,
        )
        await _post(
            http,
            "/add_model_task",
            task_name=TASK,
            model_id=MODEL,
            data_chef_id="visits",
            interval=3600,
            overwrite=True,
        )
        console.print()
        bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
        )
        with bar:
            job = bar.add_task("waiting for the scheduler", total=len(STAGES))
            async for event in events:
                if not isinstance(event, RunProgressed | RunEnded) or event.model_id != MODEL:
                    continue
                if isinstance(event, RunProgressed):
                    rows = f", {event.rows_read} rows" if event.rows_read else ""
                    bar.update(job, description=f"{event.stage}{rows}", completed=STAGES.index(event.stage))
                else:
                    break
            bar.update(job, description="trained", completed=len(STAGES))
    info = await _get(http, "/get_model_info", model_id=MODEL)
    if info["status"] != "completed":
        raise ServerCannotStart(f"The demo's training ended as {info['status']}: {info.get('error')}")
    metrics = info["model_metrics"]
    console.print(
        f"\nModel [bold]restaurants[/], version {info['model_version']}: {metrics['n_users']} guests, "
        f"{metrics['n_items']} places, {metrics['n_interactions']} visits, {metrics['training_time']} s.\n"
    )


async def _print_recommendations(http: aiohttp.ClientSession, liked: dict[str, list[demo_data.Visit]]) -> None:
    table = Table("Guest", "Liked", "GET /recommend says", title="Recommendations", show_lines=True)
    for guest in (*GUESTS, "somebody new"):
        answer = await _get(http, "/recommend", user_id=guest, model_id=MODEL, n=4)
        best = [item["item_id"] for item in answer["predictions"][guest]]
        known = [one.item_id for one in liked.get(guest, [])[:4]]
        source = "" if answer["source"] == "personal" else f"\n({answer['source']}: not in the training)"
        table.add_row(guest, _format_places(known) or "nothing known", _format_places(best) + source)
    console.print(table)


def _format_places(places: list[str]) -> str:
    return "\n".join(f"{place}  [dim]{demo_data.cuisine_of(place)}[/]" for place in places)


def _print_next_steps(server: RecServer, data: Path, url: str, keep: bool) -> None:
    console.print(f"\nEverything lies in [bold]{escape(str(data))}/[/]:")
    for path, what in (
        ("visits.csv", "the data"),
        ("config/restaurant_data.yaml", "the data chef that reads it"),
        (f"tasks/{TASK}.json", "the task: train every hour"),
        (f"models/{MODEL}.pkl", "the trained model, with _config.json and _metadata.json beside it"),
    ):
        console.print(f"  {path:<30} {what}")
    key = ' -H "X-API-Key: $RECSERVER_API_KEY"' if server.settings.api_key else ""
    ask = f"  curl{key} '{{}}/recommend?user_id=Ana&model_id={MODEL}&n=5'"
    if keep:
        console.print("\nServing on until Ctrl-C. Try:")
        console.print(ask.format(url), markup=False)
        return
    console.print("\nGo on with:")
    console.print(f"  recserver serve --data {shlex.quote(str(data))}", markup=False)
    console.print(ask.format("http://localhost:9999"), markup=False)


async def _post(http: aiohttp.ClientSession, path: str, **body: Any) -> dict[str, Any]:
    async with http.post(path, json=body) as response:
        answer: dict[str, Any] = await response.json()
    console.print(f"  POST {path}  ->  {response.status} {answer.get('message', answer.get('error'))}")
    if response.status != 200:
        raise ServerCannotStart(f"The demo cannot go on: {answer['error']}")
    return answer


async def _get(http: aiohttp.ClientSession, path: str, **query: Any) -> dict[str, Any]:
    async with http.get(path, params=query) as response:
        answer: dict[str, Any] = await response.json()
    if response.status != 200:
        raise ServerCannotStart(f"The demo cannot go on: {answer['error']}")
    return answer
