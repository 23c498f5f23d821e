"""A web server on this machine, for what is read from an address."""
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Server(BaseHTTPRequestHandler):
    """Gives ``content`` by path; closes after half of ``torn``, which it then mends."""
    content: dict = {}
    torn: set = set()
    asked: list = []

    def do_GET(self):
        self.asked.append(self.path)
        content = self.content.get(self.path.partition('?')[0])
        self.send_response(404 if content is None else 200)
        self.send_header('Content-Length', str(len(content or b'')))
        self.end_headers()
        half = self.path in self.torn and len(content) // 2
        self.wfile.write((content or b'')[:half or None])
        self.torn.discard(self.path)

    def log_message(self, *args):
        pass


@contextmanager
def served():
    """Start the server, with nothing to give; yields its address."""
    for known in (Server.content, Server.torn, Server.asked):
        known.clear()
    server = ThreadingHTTPServer(('127.0.0.1', 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
