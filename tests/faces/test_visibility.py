from pathlib import Path

import pytest
import torch

import lvmbench_faces
from lvmbench_faces.attributes import ATTRIBUTES
from lvmbench_faces.card import factor_table, rule_table
from lvmbench_faces.dataset import Faces
from lvmbench_faces.visibility import Reader, markdown, movement, prevalence, readability, train

CARD = (Path(lvmbench_faces.__file__).parent / "README.md").read_text()


def test_the_reader_has_an_output_for_each_class():
    outputs = Reader(32)(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert [o.shape[1] for o in outputs] == [1] * 22 + [5, 4, 5, 1]


def test_the_table_has_a_row_for_each_attribute():
    faces = Faces(size=32)
    read = {a.name: 0.5 for a in ATTRIBUTES}
    table = markdown(read, movement(faces, 4), prevalence(faces, 50))
    assert len(table.splitlines()) == 2 + len(ATTRIBUTES)


def test_the_card_holds_the_tables_that_follow_from_the_code():
    assert factor_table() in CARD
    assert rule_table() in CARD


def test_the_card_says_how_visible_each_attribute_is():
    heading = "| attribute | AUROC |"
    shown = CARD[CARD.index(heading) :].splitlines()
    assert [line.split("|")[1].strip() for line in shown[2 : 2 + len(ATTRIBUTES)]] == [
        a.name for a in ATTRIBUTES
    ]


@pytest.mark.slow
def test_a_small_network_reads_most_attributes_from_few_faces():
    torch.manual_seed(0)
    faces = Faces(size=32, mode="independent")
    scores = readability(train(faces.split("train", 4000), 32, epochs=18), faces.split("test", 800))
    assert sum(score > 0.85 for score in scores.values()) >= 20
