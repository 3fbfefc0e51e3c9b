import contextlib
import csv
import io
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lvmbench.errors import DataError, LvmbenchError, UsageError
from lvmbench.files import read_codes, read_table

CODES = np.array([[1.5, -2.0], [0.25, 3.0], [0.0, 1e-3]], dtype=np.float32)


@pytest.fixture
def file(tmp_path):
    """Write a file and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "name,age\nann,3\nbob,\n",
        "\ufeffname,age\r\nann,3\r\nbob,\r\n",
        "name;age\nann;3\nbob;\n",
        "name\tage\nann\t3\n\nbob\t\n",
        '"name" , age\n"ann",3\nbob,""\n'.replace(" ,", ","),
        "name|age\nann|3\nbob|",
    ],
)
def test_a_table_reads_the_same_however_it_is_written(file, text):
    found = read_table(file("labels.csv", text))
    assert list(found.columns) == ["name", "age"]
    assert found.to_numpy().tolist() == [["ann", "3"], ["bob", ""]]


def test_a_decimal_comma_is_a_point_where_semicolons_part_the_cells(file):
    found = read_table(file("labels.csv", "age;town\n1,5;Bonn, Germany\n2;Ulm\n"))
    assert found.to_numpy().tolist() == [["1.5", "Bonn, Germany"], ["2", "Ulm"]]


def test_a_comma_between_quotes_parts_no_cells(file):
    assert read_table(file("labels.csv", 'town,age\n"Bonn, Germany",3\n'))["town"].tolist() == [
        "Bonn, Germany"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 cells, where the first line has 2"),
        ("a,b\n1,2,3\n", "line 2: 3 cells"),
        ("", "empty"),
        ('a,b\n"1,2\n', "unexpected end of data"),
        (b"a,b\n1,\xff\n", "byte 6 is not UTF-8"),
    ],
)
def test_a_damaged_table_is_told_with_file_and_line(file, text, told):
    with pytest.raises(DataError, match=rf"labels.csv.*{told}"):
        read_table(file("labels.csv", text))


def test_a_file_that_is_not_there_or_of_no_known_kind_is_told(tmp_path, file):
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="Is a directory"):
        read_table(tmp_path / "folder.csv")
    with pytest.raises(UsageError, match=r"\.csv, \.tsv, \.parquet"):
        read_table(file("labels.xlsx", ""))


def test_parquet_is_read_where_its_reader_is_installed_and_else_says_what_to_install(tmp_path, file):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="pip install pyarrow"):
            read_table(file("labels.parquet", b""))
        return
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.to_parquet(tmp_path / "labels.parquet")
    assert read_table(tmp_path / "labels.parquet").equals(frame)
    with pytest.raises(DataError, match=r"labels\.parquet"):
        read_table(file("labels.parquet", b"PAR1 but no more"))


def written(path):
    if path.suffix == ".npy":
        np.save(path, CODES)
    elif path.suffix == ".npz":
        np.savez(path, codes=CODES)
    elif path.suffix == ".safetensors":
        save_file({"codes": torch.from_numpy(CODES)}, path)
    else:
        pd.DataFrame(CODES, columns=["z0", "z1"]).to_csv(path, index=False, header=path.stem == "named")
    return path


@pytest.mark.parametrize("name", ["codes.npy", "codes.npz", "codes.safetensors", "codes.csv", "named.csv"])
def test_codes_are_read_from_every_kind_of_file(tmp_path, name):
    assert read_codes(written(tmp_path / name)) == pytest.approx(CODES)


def test_nothing_is_ever_unpickled(tmp_path, file):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "trap.npy", trap, allow_pickle=True)
    with pytest.raises(DataError, match="never unpickled"):
        read_codes(tmp_path / "trap.npy")
    np.savez(tmp_path / "trap.npz", trap, allow_pickle=True)
    with pytest.raises(DataError, match="never unpickled"):
        read_codes(tmp_path / "trap.npz")
    with pytest.raises(DataError):
        read_codes(file("bare.npy", pickle.dumps(Trap())))


def test_a_file_of_several_arrays_or_of_none_names_them(tmp_path):
    np.savez(tmp_path / "two.npz", train=CODES, test=CODES)
    with pytest.raises(DataError, match=r"2 arrays \(train.npy, test.npy\)"):
        read_codes(tmp_path / "two.npz")
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(DataError, match="2 arrays"):
        read_codes(tmp_path / "two.safetensors")
    zipfile.ZipFile(tmp_path / "none.npz", "w").close()
    with pytest.raises(DataError, match="none"):
        read_codes(tmp_path / "none.npz")


def test_a_cell_that_is_no_number_is_told_with_its_place(file):
    with pytest.raises(DataError, match=r"codes.csv, row 2, column 1: 'x' is not a number"):
        read_codes(file("codes.csv", "z0,z1\n1,2\nx,4\n"))


@pytest.mark.parametrize(
    "text",
    [
        pd.DataFrame(CODES).to_csv(),
        pd.DataFrame(CODES, index=[1, 2, 3]).to_csv(sep=";"),
        "Unnamed: 0,z0\n0,5\n1,6\n",
    ],
)
def test_an_index_among_codes_is_refused_with_how_to_leave_it_out(file, text):
    with pytest.raises(DataError, match=r"codes\.csv.*counts the rows.*index=False"):
        read_codes(file("codes.csv", text))


@pytest.mark.parametrize("text", [",z\n0,5\n2,6\n", "a,z\n0,5\n1,6\n", ",z\n0,5\n", "0,5\n1,6\n"])
def test_a_column_that_has_a_name_or_counts_no_rows_is_a_code(file, text):
    assert read_codes(file("codes.csv", text)).shape[1] == 2


@pytest.mark.parametrize("name", ["codes.npy", "codes.npz", "codes.safetensors"])
def test_a_file_that_was_cut_is_an_error_wherever_it_was_cut(tmp_path, file, name):
    whole = written(tmp_path / name).read_bytes()
    for end in {0, 1, 5, 7, 9, 60, len(whole) // 2, len(whole) - 1}:
        with pytest.raises(DataError, match=name):
            read_codes(file(name, whole[:end]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_a_damaged_file_is_an_error_or_an_array_but_no_crash(tmp_path, data):
    name = data.draw(st.sampled_from(["codes.npy", "codes.npz", "codes.safetensors", "codes.csv"]))
    blob = bytearray(written(tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(blob)
    with contextlib.suppress(LvmbenchError):
        assert isinstance(read_codes(tmp_path / name), np.ndarray)


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), max_size=6)
tables = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_was_written_with_every_cell_quoted_is_read_again(tmp_path, rows, ending, bom):
    header = [f"c{i}" for i in range(len(rows[0]))]
    out = io.StringIO()
    csv.writer(out, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    (tmp_path / "labels.csv").write_bytes((("\ufeff" * bom) + out.getvalue()).encode())
    found = read_table(tmp_path / "labels.csv")
    assert list(found.columns) == header
    assert found.to_numpy().tolist() == rows


def test_a_row_is_known_by_the_line_of_its_file(file):
    found = read_table(file("labels.csv", 'town,age\nBonn,3\n\n"Ulm,\nthe old one",4\nKiel,5\n'))
    assert found.attrs["lines"] == [2, 5, 6]
    assert found["age"].to_dict() == {0: "3", 1: "4", 2: "5"}
