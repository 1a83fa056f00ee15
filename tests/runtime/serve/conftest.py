"""Services that several tests ask."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import bareclip

from .running import Running


@pytest.fixture(scope="module")
def service(bundles: dict[str, Path]) -> Iterator[Running]:
    with Running("--bundle", bundles["tiny"]) as running:
        yield running
        assert running.status() == 200, "".join(running.said)


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def library(bundles: dict[str, Path]) -> Iterator[bareclip.Clip]:
    """The same model, asked without a service."""
    with bareclip.load(bundles["tiny"]) as clip:
        yield clip
