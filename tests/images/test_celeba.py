import io
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from celeba_support import ALL, ANNOUNCED, NAMES, has, jpeg, lines, pack, text
from lvmbench import DataError, UsageError
from lvmbench.options import resolve
from lvmbench.testing import check_dataset
from lvmbench_images import lvmbench_datasets
from lvmbench_images.celeba import CelebA, official


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def home(root):
    """A folder with the zip of pictures and the list of labels."""
    pack(root / "celeba" / "img_align_celeba.zip", ALL)
    (root / "celeba" / "list_attr_celeba.txt").write_bytes(text().encode())
    return root / "celeba"


def parts(data):
    return {name: sorted(data.split(name).rows.tolist()) for name in ("train", "val", "test")}


def found(data):
    return {(f.what, f.effect): f for f in data.findings if f.what != "class without a picture"}


def test_it_is_registered_as_celeba_and_meets_the_contract_of_a_data_set(home):
    assert lvmbench_datasets()["celeba"].target == "lvmbench_images.celeba:CelebA"
    check_dataset(CelebA)


def test_all_forty_labels_have_their_official_names_and_one_is_yes(home):
    data = CelebA()
    assert [a.name for a in data.schema.attributes] == [*NAMES, "hair_color"]
    assert {a.source for a in data.schema.attributes} == {"annotators"}
    for name in ("train", "val", "test"):
        split = data.split(name)
        assert split.labels[:, :40].tolist() == [has(number) for number in split.rows.tolist()]


def test_a_row_is_the_number_of_the_picture_and_shows_its_file(home):
    split = CelebA(crop="whole").split("test")
    for number, image in zip(split.rows.tolist(), split.images, strict=True):
        file = Image.open(io.BytesIO(jpeg(number))).resize((64, 64), Image.Resampling.BILINEAR)
        assert (image.permute(1, 2, 0).numpy() == np.asarray(file)).all()


def test_a_list_that_is_cut_off_is_told_by_its_count(home):
    path = home / "list_attr_celeba.txt"
    path.write_bytes(b"\r\n".join(path.read_bytes().split(b"\r\n")[:-2]))
    data = CelebA()
    assert "announces 17 rows, 16 follow" in found(data)["count that does not agree", "noted"].told
    assert "202599.jpg" in found(data)["picture without a row", "left out"].where


def test_a_name_that_is_none_of_celeba_is_left_out_and_told(home):
    path = home / "list_attr_celeba.txt"
    path.write_bytes((text() + "\r\n".join(lines([202_600]))).replace(ANNOUNCED, "18\r\n").encode())
    told = found(CelebA())["row of no picture of CelebA", "left out"]
    assert told.where == f"{path}, line 20: '202600.jpg'"


def test_official_splits_are_ranges_of_numbers():
    numbers = np.arange(1, 202_600)
    assert np.bincount(official(numbers)).tolist() == [162_770, 19_867, 19_962]
    assert (np.diff(official(numbers)) >= 0).all()


def test_without_a_file_of_splits_the_numbers_tell(home):
    assert parts(CelebA()) == {
        "train": [*range(1, 13), 162_770],
        "val": [162_771, 182_637],
        "test": [182_638, 202_599],
    }
    assert found(CelebA()) == {}


@pytest.mark.parametrize(
    ("name", "row", "head"),
    [
        ("list_eval_partition.txt", "{:06d}.jpg {}\n", ""),
        ("Eval/list_eval_partition.txt", "{:06d}.jpg {}\r\n", ""),
        ("list_eval_partition.csv", "{:06d}.jpg,{}\n", "image_id,partition\n"),
    ],
)
def test_a_file_of_splits_tells_them(home, name, row, head):
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_bytes((head + "".join(row.format(n, n % 3) for n in ALL)).encode())
    assert parts(CelebA()) == {
        p: [n for n in ALL if n % 3 == k] for k, p in enumerate(("train", "val", "test"))
    }


def test_a_picture_that_the_file_of_splits_lacks_goes_by_its_number_and_is_told(home):
    path = home / "list_eval_partition.txt"
    path.write_text("".join(f"{n:06d}.jpg {n % 3}\n" for n in ALL[:-1]))
    data = CelebA()
    assert 202_599 in parts(data)["test"]
    assert "202599.jpg" in found(data)["picture without a split", "noted"].where


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "identity_CelebA.txt"])
def test_a_picture_that_a_list_has_twice_is_told_and_its_first_row_stays(home, name):
    numbers = {n: n % 3 for n in ALL}
    rows = [f"{n:06d}.jpg {value}\n" for n, value in numbers.items()]
    (home / "list_eval_partition.txt").write_text("".join(rows))
    (home / "identity_CelebA.txt").write_text("".join(rows))
    expected, before = parts(CelebA()), CelebA().album
    (home / name).write_text("".join([*rows, "000001.jpg 1\n", "000002.jpg 1\n", "000002.jpg 2\n"]))
    data = CelebA()
    assert parts(data) == expected
    assert (data.album.identities == before.identities).all()
    same, other = (
        found(data)["row twice", "noted"],
        found(data)["rows of one picture that disagree", "changed"],
    )
    assert same.where == f"{home / name}, line 20: '000002.jpg'"
    assert (other.where, other.told) == (
        f"{home / name}, line 19: '000002.jpg'",
        "1 here, 2 in the first row, which is taken",
    )


@pytest.mark.parametrize(
    ("row", "told"), [("000002.jpg 3", "line 2: no split is numbered 3"), ("x 1 2", "line 2")]
)
def test_a_file_of_splits_that_is_not_understood_is_refused(home, row, told):
    (home / "list_eval_partition.txt").write_text(f"000001.jpg 0\n{row}\n")
    with pytest.raises(DataError, match=rf"list_eval_partition\.txt, {told}"):
        CelebA().split("test")


def test_a_file_of_splits_with_another_number_of_columns_is_refused(home):
    (home / "list_eval_partition.txt").write_text("000001.jpg 0 1\n")
    with pytest.raises(DataError, match="a name and one number"):
        CelebA().split("test")


def first(root, count=80):
    """Write the first pictures only, which are all of the official train."""
    pack(root / "celeba" / "img_align_celeba.zip", range(1, count + 1))
    (root / "celeba" / "list_attr_celeba.txt").write_text(text([*range(1, count + 1), 202_599]))
    return root / "celeba"


def test_of_the_first_pictures_own_splits_are_drawn_and_that_is_told(root):
    home = first(root)
    data = CelebA()
    drawn = parts(data)
    assert sorted(n for part in drawn.values() for n in part) == list(range(1, 81))
    assert all(2 <= len(drawn[name]) <= 20 for name in ("val", "test"))
    told = found(data)["official splits not usable", "noted"]
    assert "val and test" in told.told
    assert told.where == str(home / "img_align_celeba.zip")
    more = parts(CelebA()) if first(root, 90) else {}
    assert all(set(drawn[name]) <= set(more[name]) for name in drawn)  # who came later moved nobody


def test_where_identities_are_known_whole_people_are_drawn(root):
    home = first(root)
    assert not CelebA().schema.identities
    assert CelebA().split("train").groups is None
    (home / "identity_CelebA.txt").write_text("".join(f"{n:06d}.jpg {n // 4}\n" for n in range(1, 81)))
    data = CelebA()
    assert data.schema.identities
    people = {name: {n // 4 for n in numbers} for name, numbers in parts(data).items()}
    assert all(people.values())
    assert not people["train"] & (people["val"] | people["test"])
    assert not people["val"] & people["test"]
    split = data.split("train")
    same = split.rows[:, None] // 4 == split.rows // 4
    assert torch.equal(split.groups[:, None] == split.groups, same)


def test_a_picture_without_an_identity_is_a_person_of_its_own_and_told(home):
    (home / "Anno").mkdir()
    (home / "Anno" / "identity_CelebA.txt").write_text(
        "".join(f"{n:06d}.jpg 7\n" for n in ALL if n not in (5, 6))
    )
    data = CelebA()
    split = data.split("train")
    groups = dict(zip(split.rows.tolist(), split.groups.tolist(), strict=True))
    assert len(set(groups.values())) == 3
    assert [[n for n in groups if groups[n] == groups[alone]] for alone in (5, 6)] == [[5], [6]]
    assert "000006.jpg" in found(data)["picture without an identity", "noted"].where


def test_zip_and_folders_however_nested_are_the_same_data(home):
    expected, splits = CelebA().fingerprint, {n: CelebA().split(n) for n in ("train", "test")}
    packed = home / "img_align_celeba.zip"
    for inside in ("img_align_celeba/img_align_celeba/", "celeba/some where/", ""):
        pack(packed, ALL, inside)
        assert CelebA().fingerprint == expected
    packed.unlink()
    for folder in ("img_align_celeba", "img_align_celeba/img_align_celeba", "Img/img_align_celeba"):
        (home / folder).mkdir(parents=True)
        for number in ALL:
            (home / folder / f"{number:06d}.jpg").write_bytes(jpeg(number))
        data = CelebA()
        assert data.fingerprint == expected
        for name, split in splits.items():
            assert torch.equal(data.split(name).rows, split.rows)
            assert torch.equal(data.split(name).images, split.images)
        assert found(data) == {}
        shutil.rmtree(home / folder.partition("/")[0])


def test_the_folders_of_the_official_site_and_the_root_itself_are_looked_in(root):
    pack(root / "Img" / "img_align_celeba.zip", ALL)
    (root / "Anno").mkdir()
    (root / "Anno" / "list_attr_celeba.txt").write_text(text())
    assert len(CelebA().split("test")) == 2


def test_a_picture_in_two_folders_is_read_once_and_told(home):
    with zipfile.ZipFile(home / "img_align_celeba.zip", "a") as archive:
        archive.writestr("more/000001.jpg", jpeg(55))
        archive.writestr("more/cover.jpg", jpeg(56))
    data = CelebA()
    assert parts(data)["train"] == [*range(1, 13), 162_770]
    told = found(data)
    assert "'more/000001.jpg'" in told["name in two folders", "left out"].where
    assert "'img_align_celeba/000001.jpg'" in told["name in two folders", "left out"].told
    assert "'more/cover.jpg'" in told["name of another form", "left out"].where


def test_rows_without_a_picture_and_pictures_without_a_row_are_left_out_and_told(home):
    (home / "list_attr_celeba.txt").write_text(text([*ALL[1:], 77]))
    data = CelebA()
    assert sorted(n for part in parts(data).values() for n in part) == ALL[1:]
    told = found(data)
    assert "'000077.jpg'" in told["row without a picture", "left out"].where
    assert "'000001.jpg'" in told["picture without a row", "left out"].where


CROPS = {  # left, top, right, bottom
    148: (15, 35, 163, 183),
    "larsen": (15, 40, 163, 188),
    140: (19, 39, 159, 179),
    108: (35, 55, 143, 163),
    "whole": (0, 0, 178, 218),
}


@pytest.mark.parametrize("crop", CROPS)
def test_a_crop_is_cut_from_the_picture_as_it_was_published_and_then_resized(home, crop):
    split = CelebA(crop=crop).split("test", 1)
    file = Image.open(io.BytesIO(jpeg(int(split.rows)))).crop(CROPS[crop])
    expected = np.asarray(file.resize((64, 64), Image.Resampling.BILINEAR))
    assert (split.images[0].permute(1, 2, 0).numpy() == expected).all()


def test_a_halved_copy_gives_nearly_the_same_picture(home):
    original = CelebA(crop="larsen").split("test")
    pack(home / "img_align_celeba.zip", ALL, size=(89, 109))
    halved = CelebA(crop="larsen").split("test")
    assert torch.equal(halved.rows, original.rows)
    apart = (halved.images.float() - original.images.float()).abs().mean()
    shifted = (CelebA().split("test").images.float() - original.images.float()).abs().mean()
    assert apart < 2.5 < shifted  # five pixels are seen


def test_of_a_halved_copy_half_the_box_is_cut(home):
    pack(home / "img_align_celeba.zip", ALL, size=(89, 109))
    split = CelebA().split("test", 1)
    file = Image.open(io.BytesIO(jpeg(int(split.rows), (89, 109))))
    expected = file.resize((64, 64), Image.Resampling.BILINEAR, box=(7.5, 17.5, 81.5, 91.5))
    inside = np.s_[2:-2, 2:-2]  # Pillow's own box lets its filter reach beyond
    assert (split.images[0].permute(1, 2, 0).numpy()[inside] == np.asarray(expected)[inside]).all()


def test_a_picture_of_another_shape_is_left_out_and_told(home):
    with zipfile.ZipFile(home / "img_align_celeba.zip", "a") as archive:
        archive.writestr("000013.jpg", jpeg(13, (128, 128)))
    (home / "list_attr_celeba.txt").write_text(text([*ALL, 13]))
    data = CelebA(crop="whole")
    assert 13 not in parts(data)["train"]
    told = found(data)["picture that cannot be read", "left out"]
    assert "000013.jpg" in told.where
    assert "178 × 218" in told.told


def test_size_and_crop_are_part_of_the_name_and_of_the_fingerprint_and_move_no_row(home):
    asked = [
        CelebA(),
        CelebA(size=32),
        CelebA(crop=140),
        CelebA(crop="larsen"),
        CelebA(size=128, crop="whole"),
    ]
    assert [data.title for data in asked] == [
        "celeba-64-c148", "celeba-32-c148", "celeba-64-c140", "celeba-64-larsen", "celeba-128-whole",
    ]  # fmt: skip
    assert len({data.fingerprint for data in asked}) == 5
    assert len({tuple(data.split("train").rows.tolist()) for data in asked}) == 1
    assert asked[-1].split("test").images.shape == (2, 3, 128, 128)


def test_a_crop_is_asked_for_by_a_number_or_a_word():
    assert resolve("celeba", CelebA, {"crop": 108})["crop"] == 108
    with pytest.raises(UsageError, match="crop"):
        resolve("celeba", CelebA, {"crop": 150})


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "list_attr_celeba.txt"])
def test_a_missing_file_is_told_with_the_places_the_source_and_the_terms(home, root, name):
    (home / name).unlink()
    with pytest.raises(DataError) as error:
        CelebA().split("test")
    told = (
        name,
        str(home),
        f"{root}.",
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "non-commercial research",
        "--data-root",
    )
    assert [text for text in told if text not in str(error.value)] == []


def test_a_page_that_was_saved_as_the_zip_is_refused_by_name(home):
    (home / "img_align_celeba.zip").write_bytes(b"<html>Quota exceeded</html>")
    with pytest.raises(DataError, match=r"img_align_celeba\.zip is not a readable zip"):
        CelebA().split("test")


def test_making_the_object_reads_nothing_and_says_what_it_holds():
    schema = CelebA(size=32).schema
    assert (schema.shape, schema.pixels, schema.identities) == ((3, 32, 32), "gaussian", False)
