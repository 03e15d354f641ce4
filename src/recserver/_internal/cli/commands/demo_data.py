"""A small restaurant data set: invented restaurants, and guests with one or two favourite cuisines."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

SEED = 7
N_GUESTS = 240
FAVOURITE_RATINGS, OTHER_RATINGS = (4, 5), (1, 2, 3, 3)
"""Ratings that a guest gives in a favourite cuisine, and elsewhere."""

PLACES = {
    cuisine: names.split(", ")
    for cuisine, names in {
        "Italian": "Luna Trattoria, Pane e Olio, Da Marta, Osteria Nord, Forno Vecchio, Basilico, Il Cortile",
        "Japanese": "Sakura Counter, Umi, Ramen Kobo, Little Izakaya, Hana, Tsuki Udon, Kaiten Street",
        "Mexican": "Casa Maiz, El Farolito, Taqueria Sol, La Milpa, Agave, Tres Moles, Mercado 22",
        "Indian": "Saffron Gate, Tandoor House, Masala Lane, Dosa Corner, Ganga, The Curry Leaf, Thali",
        "Vegetarian": "Green Table, Roots, Sprout, The Good Bean, Orchard Kitchen, Lentil & Co, Wild Fennel",
        "Steakhouse": "Ember, The Butcher's Table, Oak & Iron, Prime Corner, Smoke Yard, Rib Room, Angus 9",
    }.items()
}
NAMES = (
    "Ana", "Ben", "Chloe", "Dario", "Elif", "Femi", "Greta", "Hugo",
    "Ines", "Jonas", "Kira", "Liam", "Mina", "Noor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Visit:
    """A guest visited a restaurant and rated it with one to five stars."""

    user_id: str
    item_id: str
    rating: int


def cuisine_of(place: str) -> str:
    """The cuisine of a restaurant."""
    return next(cuisine for cuisine, places in PLACES.items() if place in places)


def visits() -> list[Visit]:
    """The visits of all guests, the same every time.

    A guest has one or two favourite cuisines, has visited most but not all restaurants of them, and few others.
    The unvisited restaurants of the favourite cuisines are what there is to recommend.
    """
    random = Random(SEED)  # noqa: S311 - a data set, not a secret
    rows = []
    for number in range(N_GUESTS):
        name = NAMES[number % len(NAMES)] + ("" if number < len(NAMES) else f" {number // len(NAMES) + 1}")
        favourites = random.sample(list(PLACES), random.choice((1, 2)))
        for cuisine, places in PLACES.items():
            is_favourite = cuisine in favourites
            count = random.randint(4, 5) if is_favourite else random.choice((0, 0, 1))
            ratings = FAVOURITE_RATINGS if is_favourite else OTHER_RATINGS
            rows += [Visit(name, place, random.choice(ratings)) for place in random.sample(places, count)]
    random.shuffle(rows)
    return rows


def write_csv(path: Path, visits: list[Visit]) -> None:
    """Write the visits to a file with column names of its own, so that the demo has to rename them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("guest", "restaurant", "stars"))
        writer.writerows((visit.user_id, visit.item_id, visit.rating) for visit in visits)


def liked(visits: list[Visit]) -> dict[str, list[Visit]]:
    """Each guest's visits, best rated first."""
    by_guest: defaultdict[str, list[Visit]] = defaultdict(list)
    for visit in sorted(visits, key=lambda visit: (-visit.rating, visit.item_id)):
        by_guest[visit.user_id].append(visit)
    return dict(by_guest)
