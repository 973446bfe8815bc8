"""A small OpenAI-compatible server on this machine."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Reply = tuple[int, object, dict[str, str]]


class FakeServer:
    """Answers POSTs with what ``reply(body, number of this request)`` returns."""

    def __init__(self) -> None:
        self.reply: Callable[[dict, int], Reply] = lambda body, _: (
            200,
            self.completion(f"echo {body.get('prompt')}"),
            {},
        )
        self.bodies: list[dict] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.busy = self.busiest = 0
        self.models: object = {"data": [{"id": "tiny"}]}
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200 if self.path == "/v1/models" else 404, fake.models, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    fake.bodies.append(body)
                    fake.paths.append(self.path)
                    fake.headers.append(dict(self.headers))
                    fake.busy += 1
                    fake.busiest = max(fake.busiest, fake.busy)
                    number = len(fake.bodies)
                try:
                    reply = fake.reply(body, number)
                finally:
                    with fake._lock:
                        fake.busy -= 1
                self._send(*reply)

            def _send(self, status: int, answer: object, headers: dict[str, str]) -> None:
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def completion(text: str, finish: str = "stop", tokens: int = 7) -> dict:
        return {"choices": [{"text": text, "finish_reason": finish}], "usage": {"completion_tokens": tokens}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = FakeServer()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
