"""A service for tests: GET answers who serves, POST appends a line to a file in the replicated directory, on disk before it is answered."""
import http.server, os, sys

DATA, NODE = sys.argv[1], os.environ["BINOME_NODE"]


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(f"{NODE} {os.getpid()}\n")

    def do_POST(self):
        line = self.rfile.read(int(self.headers["Content-Length"]))
        fd = os.open(f"{DATA}/lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, line + b"\n")
        os.fsync(fd)
        os.close(fd)
        self.answer("ok\n")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
