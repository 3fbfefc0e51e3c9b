import pytest
import torch

from lvmbench import Attribute, Evaluation, NotApplicable, Schema, Split
from lvmbench.api import Budget
from lvmbench_models.naive import AttributeOnly, Majority, Pixels

SCHEMA = Schema((1, 4, 4), "gaussian", (Attribute("Bald", "binary"), Attribute("Male", "binary")))


def rows(labels):
    labels = torch.tensor(labels)
    return Split(torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8), labels, torch.arange(len(labels)))


def test_raw_pixels_are_the_means_of_patches():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert Pixels(SCHEMA, size=2).encode(x).tolist() == [[2.5, 4.5, 10.5, 12.5]]


def test_a_picture_cannot_be_averaged_up():
    with pytest.raises(NotApplicable, match="smaller than 8×8"):
        Pixels(SCHEMA)


def test_the_code_of_an_attribute_is_its_label_and_the_training_mean_where_that_is_missing():
    nan = float("nan")
    model = AttributeOnly(SCHEMA)
    train = rows([[nan, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, nan]])
    model.fit(train, Budget(), 0)
    test = rows([[0.0, 0.0], [1.0, nan], [nan, 1.0]])
    assert model.encode_rows(test).tolist() == [[0.0], [0.75], [1.0]]
    ev = Evaluation(model, SCHEMA, {"train": train, "test": test}, Budget())
    assert "codes" in ev.capabilities
    assert ev.codes("test").flatten().tolist() == [0.0, 0.75, 1.0]


def test_an_attribute_that_the_data_lack_is_no_code():
    with pytest.raises(NotApplicable, match="no attribute 'Young'"):
        AttributeOnly(SCHEMA, attribute="Young")


def test_the_majority_tells_no_two_pictures_apart():
    assert Majority(SCHEMA).encode(torch.rand(3, 1, 4, 4)).tolist() == [[0.0]] * 3
