"""A receiver of webhooks on a loopback address that verifies them by the reference implementation.

Usage: webhook_server.py ADDRESS:PORT SECRET. Port 0 takes a free one; the first line of output names it.
What it answers depends on the first part of the path; `GET /` gives all that has come, as JSON.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

webhook = Webhook(sys.argv[2])
received = []
lock = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with lock:
            self.answer(200, json.dumps(received).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            webhook.verify(body, dict(self.headers))
            verified = True
        except Exception as error:
            verified = repr(error)
        with lock:
            count = 1 + sum(other["path"] == self.path for other in received)
            received.append({
                "path": self.path,
                "at": time.time(),
                "verified": verified,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": json.loads(body),
            })
        kind = self.path.split("/")[1]
        if kind == "busy" and count == 1:
            self.answer(429, b"slow down", ("Retry-After", "2"))
        elif kind == "fails" and count <= 3:
            self.answer(500, b"not yet\nreally")
        elif kind == "gone":
            self.answer(410)
        elif kind == "moved":
            self.answer(307, b"", ("Location", "/ok/moved"))
        elif kind == "silent":
            time.sleep(3600)
        else:
            self.answer(204)

    def answer(self, status, body=b"", *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


host, port = sys.argv[1].rsplit(":", 1)
server = ThreadingHTTPServer((host, int(port)), Receiver)
print("listening on {}:{}".format(*server.server_address), flush=True)
server.serve_forever()
