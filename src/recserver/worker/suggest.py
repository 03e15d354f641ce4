"""What to change in a data chef whose source lacks a column: the nearest names, and the corrected text to copy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice

from recserver.errors import shown
from recserver.specs.columns import parse_renames, rename
from recserver.specs.rows import RowRules

MOST_SHOWN = 20
"""Column names that a sentence lists."""

MOST_LOOKED_AT, MOST_COMPARED = 10_000, 1_000
"""Column names that are looked at, and that are compared letter by letter: sources may have a million."""

NEAR = 0.75
"""How alike two names must be, by difflib's measure, where no synonym fits."""

SYNONYMS = {
    "user_id": (
        "user_id user uid userid username customer_id customer client_id client member_id member visitor_id "
        "visitor account_id account buyer_id buyer person_id person subscriber_id subscriber session_id "
        "session reader_id reader listener_id listener player_id player reviewer_id reviewer profile_id who"
    ),
    "item_id": (
        "item_id item itemid iid product_id product sku article_id article movie_id movie film_id film "
        "song_id song track_id track artist_id artist book_id book isbn asin content_id content video_id "
        "video game_id game app_id business_id business place_id place venue_id venue post_id post news_id "
        "recipe_id recipe course_id course anime_id listing_id listing offer_id offer parent_asin "
        "stock_code ean what"
    ),
    "rating": "rating rate score stars star value weight preference overall review_score points grade",
    "event": ("event event_type eventtype event_name action action_type type kind interaction interaction_type"),
    "timestamp": (
        "timestamp time ts date datetime created_at created updated_at occurred_at event_time date_time "
        "unix_timestamp at"
    ),
}
"""Other names that people give to a column, the likeliest first."""


def suggestions(found: Sequence[str], rules: RowRules) -> list[str]:
    """What to change so that every needed column is there, a sentence each; empty if nothing is missing.

    Args:
        found: names of the source's columns.
        rules: of the entry.
    """
    if not found:
        return []
    renames = rules.renames
    needed = rules.needed()
    named_twice = [old for new, old in rename(found, renames).items() if new in needed and found.count(old) > 1]
    if named_twice:
        return [
            f"The source has two columns named {shown(one)}: give one of them another name there, in a query with "
            "AS."
            for one in named_twice
        ]
    absent = {new: old for old, new in renames.items() if old not in found}
    fixed = {old: new for old, new in renames.items() if old in found}
    sentences, mild = [], []
    free = [
        name
        for name in found[:MOST_LOOKED_AT]
        if name not in fixed and name not in needed and _can_be_renamed(name)
    ]
    for name, must in needed.items():
        if name in rename(found, fixed):
            continue
        asked = absent.get(name)
        misnamed = _misnamed(name, fixed, needed) if must and asked is None else None
        if misnamed is not None:
            sentences.append(
                f"There is no column {name}; rename_columns makes {shown(fixed[misnamed])} of {shown(misnamed)}: "
                f"write {misnamed}->{name} there."
            )
            fixed[misnamed] = name
            continue
        match = _match(name, asked, free)
        if match is not None and not (must or asked):
            mild.append(
                f"Without a column {name} every row counts 1; found {shown(match)}: "
                f"add {match}->{name} to rename_columns if it is that."
            )
            continue
        if match is not None:
            free.remove(match)
            fixed[match] = name
        if asked is not None or must:
            sentences.append(_sentence(name, asked, match, found, free))
    if sentences and fixed and fixed != renames:
        text = ",".join(f"{old}->{new}" for old, new in fixed.items())
        sentences.append(f"With all of that it is rename_columns: {text}")
    mild += [_useless(old, new, found) for new, old in absent.items() if new not in needed]
    return [*sentences, *mild]


def _match(name: str, asked: str | None, free: Sequence[str]) -> str | None:
    """The column that is probably ``name``: near to what was asked for, or what people often call it."""
    return (_nearest(asked, free) if asked is not None else None) or _like(name, free)


def _misnamed(name: str, renames: Mapping[str, str], needed: Collection[str]) -> str | None:
    """The column that is renamed, but to something that only resembles ``name``."""
    return next((old for old, new in renames.items() if new not in needed and _like(name, [new])), None)


def _can_be_renamed(name: str) -> bool:
    """Whether ``rename_columns`` can say this name."""
    try:
        return parse_renames(f"{name}->x") == {name: "x"}
    except ValueError:
        return False


def _useless(old: str, new: str, found: Sequence[str]) -> str:
    near = _nearest(old, found)
    meant = f"did you mean {shown(near)}?" if near is not None else "nothing reads it: leave it out."
    return f"rename_columns names {shown(old)}, which the source does not have: {meant}"


def _sentence(name: str, asked: str | None, match: str | None, found: Sequence[str], free: Sequence[str]) -> str:
    wrong = f"rename_columns names {shown(asked)}, which the source does not have; " if asked is not None else ""
    if match is not None:
        advice = f"found {shown(match)}: add {match}->{name} to rename_columns."
    else:
        like = f", like {free[0]}->{name}" if free else ""
        advice = f"found {_listed(found)}: say in rename_columns which of them is {name}{like}."
    start = f"{wrong}there is no column {name}; {advice}"
    return start[0].upper() + start[1:] if not wrong else start


def _like(name: str, free: Sequence[str]) -> str | None:
    """The column of ``free`` that people most likely mean by ``name``."""
    plain = {_plain(one): one for one in reversed(free)}
    words = SYNONYMS.get(name, name).split()
    for word in words:
        if (match := plain.get(_plain(word))) is not None:
            return match
    return _nearest(name, free)


def _nearest(name: str, free: Iterable[str]) -> str | None:
    plain = {_plain(one): one for one in islice(free, MOST_COMPARED)}
    near = get_close_matches(_plain(name), plain, n=1, cutoff=NEAR)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    """A name without what people write differently: case, underscores, blanks, hyphens."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(shown(name) for name in names[:MOST_SHOWN]) + more
