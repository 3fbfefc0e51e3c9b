"""A plugin that fails when it is imported."""

import a_library_that_is_not_there  # noqa: F401
