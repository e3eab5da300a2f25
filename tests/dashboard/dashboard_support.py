"""A real dashboard process, and a browser without a window."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import requests

from tests.support.waiting import wait_until
from tests.support.workers import ROOT

PASSWORDS = {"viola": "viewer-password", "oscar": "operator-password", "ada": "admin-password-1"}
ROLES = {"viola": "viewer", "oscar": "operator", "ada": "admin"}


class Dashboard:
    """`celery -A cgk_tasks flower` (or another command) on a free port of 127.0.0.1."""

    def __init__(self, log: Path, command=("-m", "celery", "-A", "cgk_tasks", "flower"), options=("--port=0",), **env):
        self.log_path = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command, *options],
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                cwd=log.parent, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    @property
    def url(self):
        """Once it answers."""

        def address():
            assert self.process.poll() is None, self.log
            return re.search(r"dashboard: (http://\S+)/overview ", self.log)

        return wait_until(address, 60, "dashboard says its address").group(1)

    def browser(self, name=None):
        browser = Browser(self.url)
        if name:
            browser.log_in(name)
        return browser

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Browser(requests.Session):
    """Follows links and sends forms: with the token that the form brought, as a browser would."""

    def __init__(self, url):
        super().__init__()
        self.base = url
        self.headers["Accept"] = "text/html"

    def log_in(self, name):
        answer = self.submit(self.open("/login"), "/login", name=name, password=PASSWORDS[name])
        assert answer.status_code == 200, answer.text

    def open(self, path, **options):
        return self.get(f"{self.base}{path}", timeout=30, **options)

    def submit(self, page, action, **fields):
        """Send a form of the page."""
        form = next(form for form in forms(page.text) if form["action"] == action)
        return self.post(f"{self.base}{action}", data={**form["fields"], **fields}, timeout=30)


class _Forms(HTMLParser):
    """The forms of a page, with what their controls say."""

    def __init__(self):
        super().__init__()
        self.forms = []
        self.area = self.select = None

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "form":
            self.forms.append({"action": given.get("action", ""), "fields": {}})
        elif tag == "option" and self.select and ("selected" in given or self.select not in self.fields):
            self.fields[self.select] = given.get("value", "")
        elif self.forms and given.get("name") and tag == "input":
            if given.get("type") != "checkbox" or "checked" in given:
                self.fields[given["name"]] = given.get("value", "")
        elif self.forms and given.get("name") and tag == "textarea":
            self.area = given["name"]
            self.fields[self.area] = ""
        elif self.forms and given.get("name") and tag == "select":
            self.select = given["name"]

    def handle_endtag(self, tag):
        if tag == "textarea":
            self.area = None
        elif tag == "select":
            self.select = None

    def handle_data(self, data):
        if self.area:
            # As browsers do, without a line feed right behind the tag.
            self.fields[self.area] += data if self.fields[self.area] else data.removeprefix("\n")

    @property
    def fields(self):
        return self.forms[-1]["fields"]


def forms(text):
    parser = _Forms()
    parser.feed(text)
    return parser.forms


def actions(text):
    """The addresses of a page's forms that change something."""
    return {form["action"] for form in forms(text) if "_xsrf" in form["fields"]}


def scrypt(password):
    """A hash as the file of users has them."""
    salt, digest = (
        b"0123456789abcdef",
        hashlib.scrypt(password.encode(), salt=b"0123456789abcdef", n=2**10, r=8, p=1, dklen=32),
    )
    return f"scrypt$1024$8$1${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
