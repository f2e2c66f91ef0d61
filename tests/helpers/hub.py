"""A stand-in for the Hugging Face hub, on this computer."""

import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

COMMIT = "0123456789abcdef" * 2 + "01234567"


@dataclass
class Hub:
    """The stand-in.

    Attributes:
        folders: the models that it has, by name.
        sent: bytes of each file that was downloaded, as ``owner/name/file``.
        repositories: what was made: name → whether it is private.
        files: what was uploaded, by path in the repository.
        commits: headers of the commits.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    repositories: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict] = field(default_factory=list)


def _entry(name, size):
    return {"type": "file", "path": name, "size": size, "oid": "0" * 40}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def found(self, pattern):
        return re.fullmatch(pattern, self.path.partition("?")[0])

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def files_of(self, name):
        folder = self.hub.folders.get(name)
        if folder is None:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return {
            p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()
        }

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if match := self.found(r"/api/models/([^/]+/[^/]+)/tree/[^/]+"):
            if match[1] in self.hub.repositories:
                self.answer(200, [_entry(name, len(c)) for name, c in self.hub.files.items()])
            elif (files := self.files_of(match[1])) is not None:
                self.answer(200, [_entry(name, p.stat().st_size) for name, p in files.items()])
        elif match := self.found(r"/api/models/([^/]+/[^/]+?)(/revision/[^/]+)?"):
            if (files := self.files_of(match[1])) is not None:
                about = {"id": match[1], "modelId": match[1], "sha": COMMIT, "private": False}
                self.answer(200, {**about, "siblings": [{"rfilename": name} for name in files]})
        elif match := self.found(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)"):
            if (files := self.files_of(match[1])) is None:
                return
            if match[2] not in files:
                self.answer(404, X_Error_Code="EntryNotFound")
                return
            self.send_file(f"{match[1]}/{match[2]}", files[match[2]].read_bytes())
        else:
            self.answer(404)

    def send_file(self, name, content):
        about = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X_Repo_Commit": COMMIT}
        if self.command == "HEAD":
            self.answer(200, Content_Length=str(len(content)), **about)
            return
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            content = content[int(part[1]) : int(part[2]) + 1 if part[2] else None]
        self.hub.sent[name] = self.hub.sent.get(name, 0) + len(content)
        self.answer(206 if part else 200, content, **about)

    def do_POST(self):
        body, address = self.body(), f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            private = asked.get("private") or asked.get("visibility") == "private"
            self.hub.repositories[name] = bool(private)
            self.answer(200, {"url": f"{address}/{name}", "id": name, "name": name})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif self.found(r"/api/models/.+/preupload/[^/]+"):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for each in files
            ]
            self.answer(200, {"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    **each,
                    "actions": {
                        "upload": {"href": f"{address}/objects/{each['oid']}", "header": {}}
                    },
                }
                for each in json.loads(body)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif self.found(r"/api/models/.+/commit/[^/]+"):
            self.commit([json.loads(line) for line in body.splitlines() if line.strip()])
            about = {"commitUrl": f"{address}/me/x/commit/{COMMIT}", "commitOid": COMMIT}
            self.answer(200, {**about, "pullRequestUrl": None, "success": True})
        else:
            self.answer(404)

    def commit(self, lines):
        import base64

        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value)
            elif line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                self.hub.files.pop(value["path"], None)

    def do_PUT(self):
        content = self.body()
        self.hub.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)


@contextlib.contextmanager
def serving_hub(cache):
    """Serve a stand-in that huggingface_hub asks, with a cache of its own."""
    from huggingface_hub import constants

    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        settings = {"ENDPOINT": address, "HUGGINGFACE_CO_URL_TEMPLATE": template}
        settings |= {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": False}
        settings |= {"HF_HUB_DISABLE_XET": True}
        with mock.patch.multiple(constants, **settings):
            try:
                yield hub
            finally:
                server.shutdown()
                thread.join()
