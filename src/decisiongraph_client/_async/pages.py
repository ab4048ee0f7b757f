"""Lists that come in pages, as one iterator over all their items."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Page = TypeVar("Page")
_Fetched = TypeVar("_Fetched", covariant=True)


class AsyncFetch(Protocol[_Fetched]):
    """Gets the page that a token names; an empty one names the first."""

    async def __call__(self, page_token: str, /) -> _Fetched:
        """The page."""


class AsyncPages(Generic[Item, Page]):
    """Items of all pages, one after the other: iterate over it. The next page is fetched when it is needed."""

    def __init__(
        self,
        fetch: AsyncFetch[Page],
        items: Callable[[Page], Sequence[Item]],
        next_token: Callable[[Page], str],
    ) -> None:
        self._fetch = fetch
        self._items = items
        self._next_token = next_token

    async def pages(self, page_token: str = "") -> AsyncIterator[Page]:
        """The answers themselves, from the one that `page_token` names on.

        Raises:
            ServiceError: a page cannot be had.
        """
        while True:
            page = await self._fetch(page_token)
            yield page
            page_token = self._next_token(page)
            if not page_token:
                return

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in self._items(page):
                yield item
