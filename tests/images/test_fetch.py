import errno
import gzip
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request

import numpy as np
import pytest

from lvmbench import DataError
from lvmbench_images import fetch as module
from lvmbench_images.fetch import Published, fetch, provide
from lvmbench_images.mnist import FASHION, FILES, MNIST
from lvmbench_images.omniglot import PARTS

CONTENT = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/onward":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
        else:
            self.send_response(200)
            if self.path != "/endless":
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: 100_000 if self.path == "/short" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path))
    return tmp_path / "some"


def published(*urls, content=CONTENT, algorithm="sha256"):
    return Published("some.bin", urls, f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("path", ["whole", "onward"])
def test_a_file_of_the_right_checksum_is_put_into_the_folder_and_nothing_else(
    server, folder, path, algorithm
):
    found = fetch("Some", published(f"{server.url}/{path}", algorithm=algorithm), folder)
    assert (found, found.read_bytes(), files(folder)) == (folder / "some.bin", CONTENT, ["some.bin"])


def test_the_second_address_is_asked_where_the_first_fails(server, folder):
    fetch("Some", published(f"{server.url}/gone", f"{server.url}/whole"), folder)
    assert (server.asked, files(folder)) == (["/gone", "/whole"], ["some.bin"])


FAILURES = [
    ("gone", CONTENT, "answers 404 Not Found"),
    ("short", CONTENT, "breaks off after 100,000 of 256,000 bytes"),
    ("whole", CONTENT[1:], "has the sha256 [0-9a-f]{64}, the published file [0-9a-f]{64}"),
]


@pytest.mark.parametrize(("path", "content", "told"), FAILURES)
def test_what_is_not_the_published_file_is_told_with_the_address_and_leaves_nothing(
    server, folder, path, content, told
):
    with pytest.raises(
        DataError, match=rf"Some: 'some.bin' cannot be fetched. {server.url}/{path}: .*{told}"
    ) as error:
        fetch("Some", published(f"{server.url}/{path}", content=content), folder)
    assert f"put the file into {folder} yourself" in str(error.value)
    assert files(folder) == []


def test_an_endless_answer_is_cut_off(server, folder, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 70_000)
    with pytest.raises(DataError, match="gives more than 70,000 bytes"):
        fetch("Some", published(f"{server.url}/endless"), folder)
    assert files(folder) == []


def test_no_network_is_told(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"  # where nobody listens
    with pytest.raises(DataError, match="cannot be fetched.*Connection refused"):
        fetch("Some", published(url), folder)
    assert files(folder) == []


def test_an_interrupt_leaves_nothing(server, folder, monkeypatch):
    def interrupted(_file):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_reach_disk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("Some", published(f"{server.url}/whole"), folder)
    assert files(folder) == []


def test_a_full_disk_is_told_and_leaves_nothing(server, folder, monkeypatch):
    def full(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_reach_disk", full)
    with pytest.raises(DataError, match=r"some.bin cannot be written \(No space left on device\)"):
        fetch("Some", published(f"{server.url}/whole", f"{server.url}/whole"), folder)
    assert (files(folder), len(server.asked)) == ([], 1)


def test_a_folder_that_cannot_be_made_is_told(server, folder):
    folder.write_bytes(b"a file")
    with pytest.raises(DataError, match="some.bin cannot be written"):
        fetch("Some", published(f"{server.url}/whole"), folder)


def test_a_file_that_was_there_is_kept_where_fetching_fails(server, folder):
    folder.mkdir()
    (folder / "some.bin").write_bytes(b"old")
    with pytest.raises(DataError, match="404"):
        fetch("Some", published(f"{server.url}/gone"), folder)
    assert (folder / "some.bin").read_bytes() == b"old"


def test_who_reads_the_file_that_was_there_goes_on_with_it(server, folder):
    folder.mkdir()
    (folder / "some.bin").write_bytes(b"old")
    with (folder / "some.bin").open("rb") as reader:
        fetch("Some", published(f"{server.url}/whole"), folder)
        assert reader.read() == b"old"
    assert (folder / "some.bin").read_bytes() == CONTENT


def test_nothing_is_fetched_without_the_flag_nor_where_the_file_is_there(server, folder, monkeypatch):
    one = published(f"{server.url}/whole")
    monkeypatch.delenv("LVMBENCH_DOWNLOAD", raising=False)
    provide("Some", "some", ["some.bin"], one)
    assert (server.asked, files(folder)) == ([], [])
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    for _ in range(2):
        provide("Some", "some", ["some.bin"], one)
    assert (server.asked, files(folder)) == (["/whole"], ["some.bin"])


def test_an_address_that_leads_from_https_to_http_is_not_followed():
    with pytest.raises(module._Failed, match="not https"):
        module._Onward().redirect_request(Request("https://some"), None, 302, "", None, "http://some")


def test_every_published_address_is_https_and_every_checksum_whole():
    known = [MNIST.origin.published(f) for f in FILES] + [FASHION.published(f) for f in FILES]
    known += [one for part in PARTS.values() for one in part.published]
    assert len(known) == 12
    lengths = {"md5": 32, "sha256": 64}
    for one in known:
        algorithm, digest = one.checksum.split(":")
        assert len(digest) == lengths[algorithm]
        assert all(url.startswith("https://") and url.endswith(f"/{one.name}") for url in one.urls)


@pytest.mark.parametrize("ours", [MNIST.origin, FASHION])
def test_the_checksums_are_those_that_torchvision_has(ours):
    from torchvision import datasets

    theirs = {"MNIST": datasets.MNIST, "Fashion-MNIST": datasets.FashionMNIST}[ours.title]
    assert {(p.name, p.checksum.removeprefix("md5:")) for p in map(ours.published, FILES)} == set(
        theirs.resources
    )


def test_a_data_set_fetches_what_it_lacks_when_it_is_read_and_not_when_it_is_located(tmp_path, monkeypatch):
    contents = {}
    for name in FILES:
        count, shape = 20, (28, 28) if "images" in name else ()
        head = np.array([0x0801 + len(shape), count, *shape], dtype=">u4").tobytes()
        contents[f"{name}.gz"] = gzip.compress(head + bytes(count * int(np.prod(shape))))
    asked = []

    def given(_title, published, folder):
        asked.append(published.name)
        Path(folder).mkdir(exist_ok=True)
        (folder / published.name).write_bytes(contents[published.name])

    monkeypatch.setattr(module, "fetch", given)
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    with pytest.raises(DataError, match="--download fetches it"):
        MNIST(val=5).locate()
    assert asked == []
    assert len(MNIST(val=5).split("train")) == 15
    assert (asked, files(tmp_path / "mnist")) == ([f"{n}.gz" for n in FILES], sorted(contents))
