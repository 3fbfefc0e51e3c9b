from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt

from lvmbench import VAE
from lvmbench.errors import PluginError, UsageError
from lvmbench.options import option_model, resolve


class Base:
    def __init__(
        self, schema, *, latent_dim: Annotated[int, Ge(1)] = 16, net: Literal["conv", "mlp"] = "conv"
    ):
        pass


class Beta(Base):
    def __init__(self, schema, *, beta: Annotated[float, Gt(0)] = 4.0, **options: object) -> None:
        super().__init__(schema, **options)


class Plain:
    pass


def test_defaults_are_filled_in_along_the_line_of_constructors():
    assert resolve("beta", Beta, {}) == {"beta": 4.0, "latent_dim": 16, "net": "conv"}


def test_a_class_without_a_constructor_has_no_options():
    assert resolve("plain", Plain, {}) == {}


def test_a_function_has_the_options_behind_its_first_argument():
    def purity(ev, *, k: int = 16):
        return k

    assert list(option_model(purity).model_fields) == ["k"]


def test_a_misspelt_option_names_the_nearest():
    with pytest.raises(UsageError, match=r"no option 'lattent_dim'. Did you mean 'latent_dim'\?.*beta=4.0"):
        resolve("beta-vae", Beta, {"lattent_dim": 4})


def test_a_value_without_a_name_is_of_the_one_option_that_must_be_given():
    def images(*, root: str, size: int = 64):
        return root, size

    assert resolve("images", images, {"": "faces", "size": 8}) == {"root": "faces", "size": 8}
    with pytest.raises(
        UsageError, match="images: 8 needs the name of its option: option=8. Its options: root, size=64"
    ):
        resolve("images", images, {"": 8, "root": "faces"})
    with pytest.raises(UsageError, match="beta: 8 needs the name of its option"):
        resolve("beta", Beta, {"": 8})


def test_every_fault_is_told_at_once():
    with pytest.raises(UsageError) as told:
        resolve("beta-vae", Beta, {"beta": -1, "latent_dim": 0, "net": "cnv"})
    assert all(option in str(told.value) for option in ("beta = -1", "latent_dim = 0", "net = 'cnv'"))


@pytest.mark.parametrize(
    "given", [{"latent_dim": "16"}, {"latent_dim": 1.5}, {"latent_dim": True}, {"net": 3}]
)
def test_no_value_is_bent_to_the_type_of_its_option(given):
    with pytest.raises(UsageError):
        resolve("vae", Base, given)


def test_a_whole_number_will_do_for_a_float():
    assert resolve("beta-vae", Beta, {"beta": 4})["beta"] == 4.0


def test_an_annotation_that_cannot_be_read_names_the_option():
    class Odd:
        def __init__(self, schema, *, width: "NoSuchType" = 3):  # noqa: F821
            pass

    with pytest.raises(PluginError, match=r"Odd.__init__.*'width'.*NoSuchType"):
        option_model(Odd)


def test_what_a_validator_says_is_told_without_the_words_of_pydantic():
    with pytest.raises(
        UsageError, match=r"vae: net = 'resnat': No net 'resnat'\. Did you mean 'resnet'\?"
    ) as told:
        resolve("vae", VAE, {"net": "resnat"})
    assert "Value error" not in str(told.value)
    assert not str(told.value).endswith("..")


def test_what_makes_a_thing_need_not_be_hashable():
    class Maker:
        def __eq__(self, other):
            return self is other

        def __call__(self, schema, *, beta: float = 2.0):
            return beta

    assert resolve("maker", Maker(), {}) == {"beta": 2.0}
