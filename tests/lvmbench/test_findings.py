import shlex

from lvmbench.data import Finding
from lvmbench.findings import by_kind, check_command, counted, findings_of, refused, summary

FOUND = [
    Finding("alpha", "a.png", "changed"),
    Finding("row without a picture", "a.csv, line 3", "left out"),
    Finding("copy", "b.png"),
    Finding("picture without a row", "c.png", "left out"),
    *[Finding("row without a picture", f"a.csv, line {i}", "left out") for i in range(4, 1204)],
]


def test_findings_are_counted_by_effect_and_kind_in_a_lasting_order():
    assert list(counted(FOUND).items()) == [
        ("changed: alpha", 1),
        ("left out: picture without a row", 1),
        ("left out: row without a picture", 1201),
        ("noted: copy", 1),
    ]
    assert counted(FOUND) == counted(FOUND[::-1])


def test_counts_are_told_a_line_an_effect_what_was_lost_first_and_the_most_frequent_first():
    assert summary(counted(FOUND)) == [
        "left out: row without a picture (1,201); picture without a row (1)",
        "changed: alpha (1)",
        "noted: copy (1)",
    ]
    assert summary({}) == []


def test_findings_stand_by_kind_in_the_same_order():
    kinds = by_kind(FOUND)
    assert list(kinds) == [
        "left out: row without a picture",
        "left out: picture without a row",
        "changed: alpha",
        "noted: copy",
    ]
    assert [f.where for f in kinds["left out: row without a picture"]][:2] == [
        "a.csv, line 3",
        "a.csv, line 4",
    ]


def test_a_data_set_that_does_not_look_has_found_nothing():
    assert findings_of(object()) == ()


def test_the_command_that_names_findings_can_be_typed():
    assert check_command("fairface") == "lvmbench data check fairface --all"
    assert (
        check_command("mnist", "--sheet", "my sheet.png")
        == "lvmbench data check mnist --sheet 'my sheet.png'"
    )
    assert (
        check_command("images(root='my faces')") == """lvmbench data check "images(root='my faces')" --all"""
    )
    for name in (
        "images(root='a!b')",
        r"images(root='a\b')",
        """images(root="it's $HOME`")""",
        "images(root=a)",
    ):
        assert shlex.split(check_command(name)) == ["lvmbench", "data", "check", name, "--all"]


def test_a_strict_run_refuses_all_but_what_an_option_had_left_out():
    dropped = Finding("copy within a split", "b.png", "dropped")
    assert refused([*FOUND, dropped]) == FOUND
    assert summary(counted([dropped, FOUND[0], FOUND[1]])) == [
        "left out: row without a picture (1)",
        "dropped: copy within a split (1)",
        "changed: alpha (1)",
    ]
