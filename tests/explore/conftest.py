from tests.examples.conftest import alpha  # noqa: F401, a fixture
