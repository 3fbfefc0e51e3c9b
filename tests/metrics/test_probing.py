import torch

from lvmbench import Attribute
from lvmbench_metrics.probing import Group, unfit


def test_nothing_is_chosen_by_rows_of_a_class_that_training_has_not_shown():
    labels = {
        s: torch.tensor(of) for s, of in {"train": [0, 1, 0, -1], "val": [2, 1, -1, 0], "test": [0]}.items()
    }
    group = Group({"a": labels}, 3)
    assert group.counts.tolist() == [[2, 1, 0]]
    assert group.val.flatten().tolist() == [-1, 1, -1, 0]


def test_a_class_that_does_not_occur_has_the_name_that_tables_give_it():
    labels = {split: torch.tensor([1, 1, 1]) for split in ("train", "val", "test")}
    assert unfit(Attribute("Bald", "binary"), labels) == "class 'no' does not occur among the train rows"
