import numpy as np
import pytest

from callbacks._uploads import send_in_pieces, write_array


@pytest.mark.parametrize("shape", [(10, 12), (700, 900), (2048, 2048)])
def test_arrays_arrive_whole_however_they_are_sent(tiled_server, shape):
    rng = np.random.default_rng(1)
    first, second, third = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    maps = tiled_server.client()["maps"]
    send_in_pieces(maps)
    send_in_pieces(maps)
    node = maps.write_array(first, key=f"upload-{shape[0]}")  # tiled's own way, cut by the hook
    assert np.array_equal(node.read(), first)
    node.write(second)
    assert np.array_equal(node.read(), second)
    write_array(node, third)
    assert np.array_equal(node.read(), third)
    write_array(node, first.T.copy().T)  # not contiguous
    assert np.array_equal(node.read(), first)
