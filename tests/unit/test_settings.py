"""What settings are read from, beside single variables."""

from pathlib import Path

import pytest

from decisiongraph_service.runtime.settings import Settings


def database_url(**variables: str) -> str | None:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DG_DATABASE_URL", "DG_DATABASE_URL_FILE"):
            environment.delenv(name, raising=False)
        for name, value in variables.items():
            environment.setenv(name, value)
        url = Settings().database_url
        return None if url is None else url.get_secret_value()


def test_the_address_of_the_database_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://a:b@c/d\n")
    assert database_url(DG_DATABASE_URL_FILE=str(file)) == "postgresql://a:b@c/d"
    assert database_url(DG_DATABASE_URL_FILE=str(file), DG_DATABASE_URL="postgresql://e/f") == "postgresql://e/f"
    assert database_url() is None


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (" \n", "is empty")])
def test_a_file_without_it_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=rf"{file} {said}"):
        database_url(DG_DATABASE_URL_FILE=str(file))
