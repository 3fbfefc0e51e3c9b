from pictures_support import NAMES, faces, images, png, write


def test_each_row_has_the_name_of_its_file_and_what_equal_files_share(here):
    faces(here / "faces", [*NAMES, "again.png"])
    write(here / "faces", {"again.png": png(0)})
    data = images()
    files = data.files_of_rows()
    assert {row: name for row, (name, _) in files.items()} == dict(
        zip(data.album.rows.tolist(), data.album.names, strict=True)
    )
    equal = [name for name, content in files.values() if content == dict(files.values())["again.png"]]
    assert sorted(equal) == [NAMES[0], "again.png"]
