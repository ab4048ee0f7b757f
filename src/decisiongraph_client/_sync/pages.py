# Made of ../_async by tools/make_blocking_client.py: change it there.
"""Lists that come in pages, as one iterator over all their items."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Page = TypeVar("Page")
_Fetched = TypeVar("_Fetched", covariant=True)


class Fetch(Protocol[_Fetched]):
    """Gets the page that a token names; an empty one names the first."""

    def __call__(self, page_token: str, /) -> _Fetched:
        """The page."""


class Pages(Generic[Item, Page]):
    """Items of all pages, one after the other: iterate over it. The next page is fetched when it is needed."""

    def __init__(
        self,
        fetch: Fetch[Page],
        items: Callable[[Page], Sequence[Item]],
        next_token: Callable[[Page], str],
    ) -> None:
        self._fetch = fetch
        self._items = items
        self._next_token = next_token

    def pages(self, page_token: str = "") -> Iterator[Page]:
        """The answers themselves, from the one that `page_token` names on.

        Raises:
            ServiceError: a page cannot be had.
        """
        while True:
            page = self._fetch(page_token)
            yield page
            page_token = self._next_token(page)
            if not page_token:
                return

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            for item in self._items(page):
                yield item
