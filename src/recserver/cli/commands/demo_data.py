"""A small restaurant data set: invented places, and guests who go where their tastes lead them."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

SEED = 7
N_GUESTS = 240
FAVOURITE_RATINGS, OTHER_RATINGS = (4, 5), (1, 2, 3, 3)
"""Ratings that a guest gives at home in a cuisine, and out of it."""

PLACES = {
    "Italian": (
        "Luna Trattoria",
        "Pane e Olio",
        "Da Marta",
        "Osteria Nord",
        "Forno Vecchio",
        "Basilico",
        "Il Cortile",
    ),
    "Japanese": ("Sakura Counter", "Umi", "Ramen Kobo", "Little Izakaya", "Hana", "Tsuki Udon", "Kaiten Street"),
    "Mexican": ("Casa Maiz", "El Farolito", "Taqueria Sol", "La Milpa", "Agave", "Tres Moles", "Mercado 22"),
    "Indian": ("Saffron Gate", "Tandoor House", "Masala Lane", "Dosa Corner", "Ganga", "The Curry Leaf", "Thali"),
    "Vegetarian": (
        "Green Table",
        "Roots",
        "Sprout",
        "The Good Bean",
        "Orchard Kitchen",
        "Lentil & Co",
        "Wild Fennel",
    ),
    "Steakhouse": (
        "Ember",
        "The Butcher's Table",
        "Oak & Iron",
        "Prime Corner",
        "Smoke Yard",
        "Rib Room",
        "Angus 9",
    ),
}
NAMES = (
    "Ana",
    "Ben",
    "Chloe",
    "Dario",
    "Elif",
    "Femi",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
    "Mina",
    "Noor",
)


@dataclass(frozen=True, slots=True)
class Visit:
    """A guest ate somewhere and gave one to five stars."""

    user_id: str
    item_id: str
    rating: int


def cuisine_of(place: str) -> str:
    """The cuisine of a place."""
    return next(cuisine for cuisine, places in PLACES.items() if place in places)


def visits() -> list[Visit]:
    """Everybody's visits, the same ones every time.

    A guest has one or two favourite cuisines, has been to most but not all places of them, and strays now and
    then: what is left of a favourite cuisine is what there is to recommend.
    """
    random = Random(SEED)  # noqa: S311 - a data set, not a secret
    made = []
    for number in range(N_GUESTS):
        name = NAMES[number % len(NAMES)] + ("" if number < len(NAMES) else f" {number // len(NAMES) + 1}")
        favourites = random.sample(list(PLACES), random.choice((1, 2)))
        for cuisine, places in PLACES.items():
            at_home = cuisine in favourites
            count = random.randint(4, 5) if at_home else random.choice((0, 0, 1))
            stars = FAVOURITE_RATINGS if at_home else OTHER_RATINGS
            made += [Visit(name, place, random.choice(stars)) for place in random.sample(places, count)]
    random.shuffle(made)
    return made


def write_csv(path: Path, made: list[Visit]) -> None:
    """The visits as a file whose columns bear names of their own, as people's files do."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("guest", "restaurant", "stars"))
        writer.writerows((one.user_id, one.item_id, one.rating) for one in made)


def liked(made: list[Visit]) -> dict[str, list[Visit]]:
    """Each guest's visits, the best first."""
    by_guest: defaultdict[str, list[Visit]] = defaultdict(list)
    for visit in sorted(made, key=lambda one: (-one.rating, one.item_id)):
        by_guest[visit.user_id].append(visit)
    return dict(by_guest)
