"""An OAuth 2 provider on loopback, of the kind of Okta: people log in there, and it tells who they are."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT, CLIENT_SECRET = "dashboard", "secret-of-the-dashboard"


@dataclass
class Identity:
    """`person`: who is logged in at the provider, and whether the address was confirmed."""

    server: ThreadingHTTPServer
    person: tuple[str, bool] = ("ada@example.com", True)
    codes: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes back to."""
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        code = secrets.token_hex(8)
        self.codes[code] = asked["redirect_uri"]
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str]) -> dict[str, str]:
        """A code is good once, for the client and the address that it was given to."""
        assert (asked["client_id"], asked["client_secret"]) == (CLIENT, CLIENT_SECRET)
        assert self.codes.pop(asked["code"]) == asked["redirect_uri"]
        token = secrets.token_hex(16)
        self.tokens[token] = self.person
        return {"access_token": token, "token_type": "Bearer"}

    def userinfo(self, authorization: str) -> dict[str, object]:
        email, is_confirmed = self.tokens[authorization.removeprefix("Bearer ")]
        return {"email": email, "email_verified": is_confirmed}


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


@contextmanager
def identity_provider() -> Iterator[Identity]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/v1/authorize":
                self.send_response(302)
                self.send_header("Location", identity.authorize(_fields(asked.query)))
                self.end_headers()
            else:
                self._answer(identity.userinfo(self.headers["Authorization"]))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(identity.token(_fields(body)))

        def _answer(self, content: dict) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    identity = Identity(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    thread = threading.Thread(target=identity.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield identity
    finally:
        identity.server.shutdown()
        thread.join()
        identity.server.server_close()
