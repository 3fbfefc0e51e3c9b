from dataclasses import replace

import torch

from lvmbench import VAE, Attribute, Batch, Budget, build, fit, observe
from lvmbench_models.controls import RandomEncoder, Supervised


def test_the_random_encoder_is_the_vaes_before_training(schema):
    x = torch.rand(3, *schema.shape)
    floor, model = (build(kind, schema, {"latent_dim": 3}, 7) for kind in (RandomEncoder, VAE))
    assert torch.equal(floor.encode(x), model.encode(x))


def test_the_random_encoder_learns_nothing(schema, split, budget):
    model = build(RandomEncoder, schema, {}, 0)
    before = [p.clone() for p in model.parameters()]
    told = fit(model, split(80), split(20, 1), budget, schema, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert told.steps == 0


def batch(schema, data):
    return Batch(observe(schema, data.images), data.labels)


def started(schema, data):
    model = build(Supervised, schema, {"features": 8, "net": "mlp"}, 0)
    model.start(data)
    return model


def test_missing_labels_do_not_move_the_network(schema, split):
    data = split(20)
    model, seen = started(schema, data), batch(schema, split(20))
    loss = model.losses(seen, 0.0)["labels"]
    known = ~seen.labels.isnan().any(1)
    only = model.losses(Batch(seen.x[known], seen.labels[known]), 0.0)["labels"]
    torch.testing.assert_close(loss, only)
    nothing = Batch(seen.x, torch.full_like(seen.labels, torch.nan))
    gradients = torch.autograd.grad(model.losses(nothing, 0.0)["labels"], list(model.parameters()))
    assert all((g == 0).all() for g in gradients)


def test_numbers_are_standardised_by_the_known_labels_of_training(schema, split):
    data = split(50)
    model = started(schema, data)
    known = data.labels[~data.labels[:, 2].isnan(), 2]
    torch.testing.assert_close(model.centre[2], known.mean())
    torch.testing.assert_close(model.spread[2], known.std(correction=0))


def test_a_number_that_never_varies_is_no_division_by_zero(schema, split):
    data = split(20)
    data.labels[:, 2] = 5.0
    assert started(schema, data).losses(batch(schema, data), 0.0)["labels"].isfinite()


def test_a_column_without_labels_is_no_division_by_zero(schema, split):
    data = split(20)
    data.labels[:, 2] = torch.nan
    assert started(schema, data).losses(batch(schema, data), 0.0)["labels"].isfinite()


def test_it_learns_what_it_is_told(schema, split):
    model = build(Supervised, schema, {"features": 8, "net": "mlp"}, 0)
    budget = Budget(images=1_000, batch=32, learning_rate=2e-3)
    told = fit(model, split(400), split(100, 1), budget, schema, seed=0)
    data = split(100, 2)
    with torch.no_grad():
        answers = model.head(model.encode(observe(schema, data.images)))
    for column, place in enumerate(model.places[:2]):
        known = ~data.labels[:, column].isnan()
        answer = answers[:, place]
        right = (answer.argmax(1) if answer.shape[1] > 1 else answer[:, 0] > 0) == data.labels[:, column]
        assert right[known].float().mean() > 0.9
    assert told.curve[-1][1] < told.curve[0][1] / 2


def test_its_budget_is_its_own(schema, split, budget):
    model = build(Supervised, schema, {}, 0)
    assert model.own_budget(budget).images > budget.images
    assert model.own_budget(budget) == replace(budget, images=model.own_budget(budget).images)


def test_its_answers_are_log_probabilities_and_numbers_in_their_unit(schema, split):
    model = build(Supervised, schema, {"features": 8, "net": "mlp"}, 0)
    fit(model, split(400), split(100, 1), Budget(images=3_000, batch=32, learning_rate=2e-3), schema, seed=0)
    data = split(200, 2)
    with torch.no_grad():
        answers = model.answers(observe(schema, data.images))
    for column, name in enumerate(a.name for a in schema.attributes[:2]):
        torch.testing.assert_close(answers[name].exp().sum(1), torch.ones(200))
        known = ~data.labels[:, column].isnan()
        assert (answers[name].argmax(1) == data.labels[:, column])[known].float().mean() > 0.9
    level, known = answers["level"], ~data.labels[:, 2].isnan()
    assert level.shape == (200,)
    assert (level - data.labels[:, 2])[known].abs().mean() < 0.5 * data.labels[known, 2].std()


def test_several_classes_are_answered_by_their_softmax(schema, split):
    three = replace(
        schema, attributes=(Attribute("place", "categorical", ("a", "b", "c")), schema.attributes[0])
    )
    model = build(Supervised, three, {"features": 8, "net": "mlp"}, 0)
    x = torch.rand(5, *schema.shape)
    with torch.no_grad():
        scores, answers = model.head(model.encode(x)), model.answers(x)
    torch.testing.assert_close(answers["place"], scores[:, :3].log_softmax(1))
    torch.testing.assert_close(answers[three.attributes[1].name].diff(dim=1)[:, 0], scores[:, 3])
