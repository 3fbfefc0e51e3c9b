import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvmbench.calls import UNNAMED, Call, parse_calls
from lvmbench.errors import UsageError

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(lambda s: not keyword.iskeyword(s))
options = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)
values = st.one_of(
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)


def test_several_values_of_an_option_give_the_grid():
    assert parse_calls("vae,beta-vae(beta=1,4,16),iwae(k=5)") == [
        Call("vae"),
        Call("beta-vae", {"beta": 1}),
        Call("beta-vae", {"beta": 4}),
        Call("beta-vae", {"beta": 16}),
        Call("iwae", {"k": 5}),
    ]


def test_two_options_with_two_values_give_four_calls():
    assert [c.options for c in parse_calls("m(a=1,2,b=x,'y z')")] == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y z"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y z"},
    ]


def test_a_tuple_is_one_value():
    assert parse_calls("m(hidden=(200, 100))") == [Call("m", {"hidden": (200, 100)})]


def test_words_mean_what_they_say():
    assert parse_calls("m(a=true,b=None,c=conv)") == [Call("m", {"a": True, "b": None, "c": "conv"})]


def test_a_name_may_carry_its_distribution():
    assert parse_calls("lvmbench-ciwae:ciwae") == [Call("lvmbench-ciwae:ciwae")]


@given(st.lists(st.tuples(names, st.dictionaries(options, values, max_size=3)), min_size=1, max_size=3))
def test_what_is_written_is_read_back(calls):
    written = [Call(name, given) for name, given in calls]
    assert parse_calls(",".join(map(str, written))) == written


def test_a_first_value_may_stand_without_the_name_of_its_option():
    assert parse_calls("images(faces, size=32)") == [Call("images", {UNNAMED: "faces", "size": 32})]
    assert parse_calls("images('a=b, c', 'd')") == [
        Call("images", {UNNAMED: "a=b, c"}),
        Call("images", {UNNAMED: "d"}),
    ]
    assert str(Call("images", {UNNAMED: "my faces", "size": 32})) == "images('my faces',size=32)"


@pytest.mark.parametrize("path", ["~/faces", "./a-1.csv", "../a", "/data/set_1/faces.zip", "img/faces.zip"])
def test_a_path_needs_no_quotes(path):
    assert parse_calls(f"images(root={path})") == [Call("images", {"root": path})]
    assert str(Call("images", {"root": path})) == f"images(root={path})"


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_with_a_sentence(text):
    try:
        calls = parse_calls(text)
    except UsageError as error:
        told = str(error)
    else:
        told = "."
        assert all(isinstance(call, Call) for call in calls)
    assert told.endswith(".")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vae(beta=1", "bracket"),
        ("vae,,iwae", "empty place"),
        ("vae(beta=)", "empty place|not a value"),
        ("vae(a=1,a=2)", "given twice"),
        ("vae(a=1;b)", "not a value"),
        ("vae(a='x)", "open quote"),
        ("9vae", "not a name"),
        ("vae(a=1)x", "not a name"),
    ],
)
def test_a_malformed_text_is_refused_with_its_fault(text, told):
    with pytest.raises(UsageError, match=told):
        parse_calls(text)
