import torch

from lvmbench_metrics.probing import Group


def test_nothing_is_chosen_by_rows_of_a_class_that_training_has_not_shown():
    labels = {
        s: torch.tensor(of) for s, of in {"train": [0, 1, 0, -1], "val": [2, 1, -1, 0], "test": [0]}.items()
    }
    group = Group({"a": labels}, 3)
    assert group.counts.tolist() == [[2, 1, 0]]
    assert group.val.flatten().tolist() == [-1, 1, -1, 0]
