import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Keep tests apart from what else the machine does: threads that wait for each other wait long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
