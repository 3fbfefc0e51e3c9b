import pytest
import torch

from lvmbench import runner
from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.data import Attribute, Finding, Schema, Split
from lvmbench.errors import DataError, UsageError
from lvmbench.plan import plan
from lvmbench.progress import Console
from lvmbench.report import table
from lvmbench.spec import Spec
from tests_support import plugin

TINY = Budget("tiny", images=128, batch=32, train=40, val=8, test=16, draws=4, density_rows=16)


class Plain:
    """Twenty lines of somebody's data, which counts how often it is built and read."""

    schema = Schema((1, 28, 28), "bernoulli", (Attribute("Upright", "binary"),))
    fingerprint = "plain"
    built, read = 0, []

    def __init__(self):
        type(self).built += 1

    def split(self, name, limit=None):
        self.read.append((name, limit))
        n = min(limit or 64, 64)
        return Split(torch.zeros(n, 1, 28, 28, dtype=torch.uint8), torch.zeros(n, 1), torch.arange(n))


class Idle:
    """An executor that leaves all to others."""

    def __init__(self, jobs, timeout):
        pass

    def run(self, tasks, on_progress):
        yield from ()


class Listener(runner.Silent):
    def __init__(self):
        self.heard = []

    def making(self, label, done, total):
        self.heard.append((label, done, total))

    def made(self, label, count, seconds):
        self.heard.append((label, count))

    def begin(self, tasks, present):
        self.heard.append(len(tasks))


@pytest.fixture
def answer(strangers, tmp_path, monkeypatch):
    """Run a spec of one model in this process, or with another executor."""
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    Plain.built, Plain.read = 0, []
    mine = plugin("mine", datasets={"plain": Plain}, executors={"idle": Idle})
    catalog = Catalog([*Catalog.discover().plugins, mine])

    def answer(dataset, listener=None, drop=False, **how):
        spec = Spec("means", dataset, "auroc", 1, TINY, controls=False, drop_duplicates=drop)
        settings = runner.Settings(tmp_path / "runs", **{"jobs": 0, **how})
        return runner.answer(spec, catalog, settings, listener)

    return answer


def test_pictures_are_made_before_any_cell_begins_and_heard_of(answer):
    heard = Listener()
    answer("stained", heard)
    last = [told for told in heard.heard if not (isinstance(told, tuple) and told[1] < told[-1])]
    assert last == [
        *[("stained", n, n) for n in (40, 8, 16)],
        ("stained", 64),
        1,
    ]
    again = Listener()
    answer("stained", again, rerun="all")
    assert again.heard == [1]  # all pictures were there


def test_a_run_reads_its_data_once_in_the_process_that_hands_out_cells(answer):
    answer("plain", executor="idle")
    assert Plain.built == 1
    assert Plain.read == [("train", 40), ("val", 8), ("test", 16)]


def test_data_that_tell_no_findings_are_not_read_where_their_cells_are_there(answer):
    assert answer("plain").records[0].status == "done"
    Plain.read.clear()
    answer("plain")
    assert Plain.read == []


def test_damaged_data_end_a_run_before_anything_is_trained(answer, tmp_path):
    heard = Listener()
    with pytest.raises(DataError, match="ends within a picture. Fetch it again"):
        answer("plain,stained(fault=data)", heard)
    assert 2 not in heard.heard  # it never began
    assert not list((tmp_path / "runs").rglob("fit"))


def test_what_is_no_fault_of_the_data_is_told_by_the_cells(answer):
    results = answer("stained(fault=other),stained", strict=False)
    assert [(r.status, r.reason) for r in results.records] == [
        ("failed", "ZeroDivisionError: stained by zero"),
        ("done", ""),
    ]


def test_a_strict_run_refuses_findings_by_count_file_and_row_though_nothing_is_to_be_run(answer):
    told = (
        r"stained: 5 findings, and a strict run allows none.\nleft out: row without a picture \(2\)\n"
        r"  a.csv, line 3: 'x3.png'\n  a.csv, line 7: 'x7.png'\nchanged: alpha \(3\)\n"
        r"  pictures.zip: 'train.png': laid on white\n.*\n.*\nEach is named by: lvmbench data check stained --all"
    )
    with pytest.raises(DataError, match=told):
        answer("stained", strict=True)
    assert answer("stained").computed == 1
    with pytest.raises(DataError, match=told):
        answer("stained", strict=True)
    assert answer("plain", strict=True).computed == 1


def test_a_strict_run_names_the_first_of_many(answer, monkeypatch):
    many = [Finding("copy", f"{i}.png") for i in range(5)]
    monkeypatch.setattr(Plain, "findings", many, raising=False)
    with pytest.raises(DataError, match=r"noted: copy \(5\)\n  0.png\n  1.png\n  2.png\n  \.\.\.\nEach"):
        answer("plain", strict=True)


def test_a_strict_run_allows_what_an_option_had_left_out(answer, monkeypatch):
    dropped = [Finding("copy within a split", "0.png", "dropped")]
    monkeypatch.setattr(Plain, "findings", dropped, raising=False)
    assert "data, dropped: copy within a split (1)" in table(answer("plain", strict=True))
    monkeypatch.setattr(Plain, "findings", [*dropped, Finding("row twice", "a.csv, line 3")])
    with pytest.raises(DataError, match=r"plain: 1 finding, and.*\nnoted: row twice \(1\)"):
        answer("plain", strict=True)


def test_a_run_tells_what_is_wrong_with_the_files_as_they_are(answer, monkeypatch):
    monkeypatch.setattr(Plain, "findings", [], raising=False)
    assert "data," not in table(answer("plain"))
    monkeypatch.setattr(Plain, "findings", [Finding("row without a picture", "a.csv, line 9", "left out")])
    later = answer("plain")
    assert later.computed == 0
    assert "data, left out: row without a picture (1)" in table(later)
    monkeypatch.setattr(Plain, "findings", [])
    assert "data," not in table(answer("plain"))


def test_duplicates_are_dropped_of_every_data_set_that_can(answer):
    (record,) = answer("stained(fault=no)", drop=True).records
    assert record.cell["dataset_options"] == {"fault": "no", "drop_duplicates": True}
    with pytest.raises(UsageError, match=r"plain has no option drop_duplicates.*have it: .*stained"):
        answer("stained,plain", drop=True)


def test_a_spec_file_may_ask_for_duplicates_to_be_dropped(strangers, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('models = "means"\ndataset = "stained"\nmetrics = ""\ndrop_duplicates = true\n')
    assert plan(Spec.read(path), Catalog.discover()).cells[0].dataset_options["drop_duplicates"]


def test_a_console_without_a_terminal_says_in_a_line_what_was_made(capsys):
    with Console() as console:
        console.making("celeba", 256, 23_000)
        console.making("celeba", 23_000, 23_000)
        console.made("celeba", 23_000, 12.3)
    assert capsys.readouterr().err == "data: celeba: 23,000 pictures made in 12 s\n"


def test_a_console_shows_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Console() as console:
        console.making("celeba", 256, 23_000)
    assert "data: celeba: 256 of 23,000 pictures" in capsys.readouterr().err


def test_a_split_without_a_picture_ends_a_run_before_anything_is_trained(answer, monkeypatch):
    def split(self, name, limit=None):
        n = 0 if name == "val" else 8
        return Split(torch.zeros(n, 1, 28, 28, dtype=torch.uint8), torch.zeros(n, 1), torch.arange(n))

    monkeypatch.setattr(Plain, "split", split)
    with pytest.raises(DataError, match="plain: no picture is in val"):
        answer("plain")
