import math

import pytest
import torch

from lvmbench import NotApplicable, Split
from lvmbench.labels import by_identity, permuted


def splits(n=400, identities=True):
    """Two attributes that are tied, the second missing in every fifth row; pictures that tell the first."""
    found = {}
    for name in ("train", "val", "test"):
        first = (torch.arange(n) % 4 == 0).float()
        second = (10 + first).masked_fill(torch.arange(n) % 5 == 0, math.nan)
        images = first[:, None, None, None].to(torch.uint8)
        groups = torch.arange(n) // 4 if identities else None
        found[name] = Split(images, torch.stack([first, second], dim=1), torch.arange(n), groups)
    return found


def rows_of(labels):
    return sorted(map(str, labels.tolist()))


def test_permuted_labels_are_the_same_rows_of_labels_in_each_split_and_nothing_else_moves():
    given = splits()
    for name, split in permuted(given, 0).items():
        assert rows_of(split.labels) == rows_of(given[name].labels)
        assert not torch.equal(split.labels[:, 0], given[name].labels[:, 0])
        assert split.images is given[name].images
        assert split.rows is given[name].rows
        assert split.groups is given[name].groups


def test_permuted_labels_know_nothing_of_the_pictures():
    labels, picture = (part.double() for part in (permuted(splits(10_000), 0)["test"].labels[:, 0],
                                                  splits(10_000)["test"].images[:, 0, 0, 0]))  # fmt: skip
    assert abs(float(torch.corrcoef(torch.stack([labels, picture]))[0, 1])) < 0.04


@pytest.mark.parametrize("control", [permuted, by_identity])
def test_a_seed_gives_one_set_of_labels_and_another_seed_another(control):
    one, same, other = (control(splits(), seed)["train"].labels for seed in (1, 1, 2))
    assert torch.equal(one.nan_to_num(-1), same.nan_to_num(-1))
    assert not torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def test_splits_are_permuted_apart():
    found = permuted(splits(), 0)
    assert not torch.equal(found["train"].labels[:, 0], found["test"].labels[:, 0])


def test_an_identity_has_one_label_in_every_split():
    found = by_identity(splits(), 0)
    for name in ("train", "val", "test"):
        labels = found[name].labels[:, 0]
        assert torch.equal(labels, labels.view(-1, 4)[:, :1].expand(-1, 4).flatten())
        assert torch.equal(labels, found["train"].labels[:, 0])


def test_random_labels_of_identities_have_the_shares_of_the_training_rows_and_are_apart_by_attribute():
    found = by_identity(splits(20_000), 0)["test"].labels
    assert float(found[:, 0].mean()) == pytest.approx(0.25, abs=0.02)
    first, second = found[~found[:, 1].isnan()].T
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.04
    assert set(second.tolist()) == {10, 11}


def test_labels_that_are_missing_stay_missing():
    given = splits()
    found = by_identity(given, 0)
    for name in found:
        assert torch.equal(found[name].labels.isnan(), given[name].labels.isnan())
    given["train"].labels[:, 1] = math.nan  # nothing to draw from
    assert by_identity(given, 0)["test"].labels[:, 1].isnan().all()


def test_labels_by_identity_need_identities():
    with pytest.raises(NotApplicable, match="identity"):
        by_identity(splits(identities=False), 0)
