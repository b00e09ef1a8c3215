"""Serves an exported decoder on this machine: codes in, pixel means out, both as JSON.

    python examples/serve.py exported/decoder.onnx 8000
    curl http://127.0.0.1:8000 -d "[[0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]"

[N, L] numbers give [N, height, width]; anything else gives status 400 and says what arrived.
`vae_tf.export_networks(vae, "exported", "onnx")` writes the file; NumPy and ONNX Runtime are all
that is needed here. Only this machine is heard: a server for others wants limits and keys too.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime

MOST_CODES, MOST_BYTES = 1_000, 1_000_000  # in a request


class Handler(BaseHTTPRequestHandler):
    """Answers requests by what the module's `decoder` makes of them."""

    timeout = 10  # seconds, for whoever announces more than comes

    def do_POST(self):
        """Answers codes by pixel means."""
        width, content = decoder.get_inputs()[0].shape[1], b""
        try:
            length = min(int(self.headers["Content-Length"] or 0), MOST_BYTES)
            content = self.rfile.read(max(length, 0))
            codes = np.array(json.loads(content), np.float64)
            if codes.shape[1:] != (width,) or not 0 < len(codes) <= MOST_CODES:
                raise ValueError(f"the shape is {list(codes.shape)}")
            if not (np.abs(codes) < 1e30).all():  # NaN among them
                raise ValueError("a number is beyond 1e30, or none")
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            wanted = f"1 to {MOST_CODES:,} lists of {width} finite numbers, {MOST_BYTES:,} bytes"
            return self.answer(400, f"expected {wanted}; received {content[:60]!r}: {error}")
        (means,) = decoder.run(["mean"], {"latents": codes.astype(np.float32)})
        self.answer(200, means.tolist())

    def answer(self, status, value):
        """Sends a value as JSON."""
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    path, port = sys.argv[1], int(sys.argv[2])
    decoder = onnxruntime.InferenceSession(path)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)  # port 0 is any that is free
    print(f"{path} is served at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
