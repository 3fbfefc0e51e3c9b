from lvmbench.listing import page
from tests_support import catalog_of


class Folder:
    """Any folder of pictures."""

    def __init__(self, *, root: str, crop: int = 148):
        raise AssertionError("it was built without what it asks for")


def test_the_page_of_data_that_have_to_be_named_says_what_tells_their_schema():
    told = page(catalog_of(datasets={"images": Folder}), "images")
    assert "its schema is not known here: it depends on root. `lvmbench data check` tells it." in told
