"""The contract tests read, and some import, the installed OpenRLHF; on a machine without it they are skipped."""

import pytest

from openrlhf_ext import upstream
from openrlhf_ext.upstream import cli


def pytest_collection_modifyitems(items):
    if not cli.installed():
        skip = pytest.mark.skip(reason="openrlhf is not installed here")
        for item in items:
            if "contract" in item.path.parts:
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def seam():
    """The seam is in before anything of OpenRLHF is imported, as in every process of a run."""
    if cli.installed():
        upstream.install()
