import http.server
import threading
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from callbacks.publish._uploads import send_in_pieces, write_array


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


def test_a_body_can_be_sent_again_when_an_expired_login_is_renewed():
    """A server that answers 401 first; httpx then repeats the request with the same body."""
    received = []

    class Renewing(httpx.Auth):
        def auth_flow(self, request):
            answer = yield request
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                request.headers["Authorization"] = "Bearer renewed"
                yield request

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if "Authorization" in self.headers else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}/"
        with httpx.Client(auth=Renewing(), trust_env=False) as client:
            node = SimpleNamespace(
                context=SimpleNamespace(http_client=client), item={"links": {"full": uri}}, http_client=client
            )
            array = np.arange(300_000.0)
            write_array(node, array)
            send_in_pieces(node)
            large = b"x" * (2 * 2**20 + 7)
            assert client.post(uri, content=large).status_code == 200
        server.shutdown()
    assert received == [array.tobytes(), array.tobytes(), large, large]
