import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from lvmbench_metrics.kmeans import assign, distances, kmeans, plus_plus, step


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def blobs():
    """Six groups far apart, 50 points each, shuffled."""
    g = generator()
    labels = torch.arange(300) % 6
    return torch.eye(6, dtype=torch.float64)[labels] * 20 + torch.randn(300, 6, generator=g), labels


def test_separated_blobs_are_found_in_a_few_iterations(blobs):
    x, labels = blobs
    found = kmeans(x, 6, 10, generator())
    scores = [adjusted_rand_score(labels, clusters) for clusters in assign(x, found.centres)]
    assert max(scores) == 1
    assert sum(score == 1 for score in scores) >= 7  # k-means++ may start two centres in one blob
    assert found.iterations[torch.tensor(scores) == 1].max() <= 3


def test_inertia_is_as_low_as_scikit_learns():
    x = torch.randn(1000, 3, generator=generator(), dtype=torch.float64)
    ours = distances(x, kmeans(x, 8, 10, generator()).centres).amin(2).sum(0).min()
    reference = KMeans(8, n_init=10, random_state=0).fit(x).inertia_
    assert float(ours) < 1.01 * reference


def test_one_step_from_the_same_centres_is_that_of_scikit_learn():
    x = torch.randn(500, 4, generator=generator(), dtype=torch.float64)
    start = x[:7]
    reference = KMeans(7, init=start.numpy(), n_init=1, max_iter=50, tol=0, algorithm="lloyd").fit(x)
    centres = start[None]
    for _ in range(reference.n_iter_):
        centres = step(x, centres)
    assert (centres[0] - torch.from_numpy(reference.cluster_centers_)).abs().max() < 1e-9


def test_one_seed_gives_one_answer_alone_or_beside_others(blobs):
    x = torch.randn(400, 5, generator=generator(), dtype=torch.float64)
    assert torch.equal(kmeans(x, 9, 4, generator(1)).centres, kmeans(x, 9, 4, generator(1)).centres)
    assert not torch.equal(kmeans(x, 9, 4, generator(1)).centres, kmeans(x, 9, 4, generator(2)).centres)
    alone, beside = kmeans(x, 9, 1, generator(1)).centres, kmeans(x, 9, 4, generator(1)).centres
    assert torch.allclose(alone[0], beside[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_one_seed_gives_one_labelling_on_every_device(blobs):
    x = blobs[0]
    on_cpu = assign(x, kmeans(x, 6, 4, generator(1)).centres)
    on_gpu = assign(x.cuda(), kmeans(x.cuda(), 6, 4, generator(1)).centres)
    assert torch.equal(on_cpu, on_gpu.cpu())


def test_no_cluster_stays_empty():
    x = torch.randn(200, 2, generator=generator(), dtype=torch.float64)
    far = torch.full((1, 5, 2), 100.0, dtype=torch.float64) + torch.arange(5)[None, :, None]
    far[0, 0] = 0  # four of five centres that no point is near
    moved = step(x, far)
    assert len(assign(x, moved)[0].unique()) == 5
    assert moved.abs().max() < 10


def test_every_point_is_used():
    x = torch.randn(5000, 2, generator=generator(), dtype=torch.float64)
    centres = kmeans(x, 2, 1, generator(), tolerance=0).centres
    members = assign(x, centres)[0]
    means = torch.stack([x[members == j].mean(0) for j in range(2)])
    assert (centres[0] - means).abs().max() < 1e-9


def test_fewer_different_points_than_clusters_is_no_trouble():
    x = torch.zeros(50, 3, dtype=torch.float64)
    assert (assign(x, kmeans(x, 4, 2, generator()).centres) == 0).all()


def test_starting_centres_are_drawn_by_squared_distance():
    x = torch.tensor([[0.0], [0.0], [1.0], [3.0]], dtype=torch.float64)
    uniform = torch.stack([torch.zeros(10_000), torch.rand(10_000, generator=generator())], dim=1).double()
    second = plus_plus(x, uniform)[:, 1, 0]
    assert float((second == 3).double().mean()) == pytest.approx(0.9, abs=0.02)
    assert not (second == 0).any()
