"""Collect what the tests found, and print it at the end."""
import pytest

LINES = pytest.StashKey()


@pytest.fixture
def tell(request):
    """Add a line to the summary."""
    return request.config.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section('what was found')
        for line in lines:
            terminalreporter.write_line(line)
