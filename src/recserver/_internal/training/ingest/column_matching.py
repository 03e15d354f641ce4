"""Which column of a source is probably meant by a name: a synonym, or one of similar spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

MAX_COMPARED = 1_000
"""Names that are compared by spelling: a source may have a million."""

MIN_SIMILARITY = 0.75
"""The least similarity of two names, as difflib measures it, where no synonym fits."""

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
"""Usual names of a column, the likeliest first."""


def matching_column(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate that is most likely meant by ``name``; None if there is none."""
    plain = {_normalised(one): one for one in reversed(candidates)}
    for word in SYNONYMS.get(name, name).split():
        if (match := plain.get(_normalised(word))) is not None:
            return match
    return closest_name(name, candidates)


def closest_name(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate of the most similar spelling; None if none is similar enough."""
    plain = {_normalised(one): one for one in islice(candidates, MAX_COMPARED)}
    matches = get_close_matches(_normalised(name), plain, n=1, cutoff=MIN_SIMILARITY)
    return plain[matches[0]] if matches else None


def is_known_name(name: str) -> bool:
    """Whether this is a usual name of any column."""
    return _normalised(name) in _KNOWN_NAMES


def _normalised(name: str) -> str:
    """A name without case, underscores, blanks and hyphens."""
    return re.sub(r"[\W_]+", "", name).casefold()


_KNOWN_NAMES = frozenset(_normalised(word) for words in SYNONYMS.values() for word in words.split())
