"""A web server for what is fetched."""

import pytest

from tests.helpers.site import served


@pytest.fixture
def site():
    """A web server on this machine."""
    with served() as site:
        yield site
