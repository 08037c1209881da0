"""A hub on this machine for tests: Hugging Face's and ModelScope's protocols over http.server, with a second server as the host of large
files (another origin), a log of every request, and faults that are asked for. Standard library only."""
import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

LARGE = 2000  # bytes from which a file is a large one (LFS)


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Repository:
    def __init__(self, files=None):
        self.commits, self.branches, self.private, self.gated, self.messages = {}, {}, False, False, []
        self.commit(files or {})

    def commit(self, files, branch="main", message=""):
        """Adds files to a branch; gives the new commit."""
        whole = dict(self.files(branch)) | files
        name = hashlib.sha1(json.dumps([branch, len(self.commits), message] + [[path, sha256(data)] for path, data in sorted(whole.items())]).encode()).hexdigest()
        self.commits[name], self.branches[branch] = whole, name
        self.messages.append(message)
        return name

    def resolve(self, revision):
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision="main"):
        return self.commits.get(self.resolve(revision), {})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def hub(self):
        return self.server.hub

    def read_body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, body=b"", headers=None, length=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code=None, message="", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if code:
            headers["X-Error-Code"] = code
        if message:
            headers["X-Error-Message"] = message
        self.answer(status, {"error": message}, headers)

    def handle_one(self):
        path, query = urllib.parse.urlsplit(self.path).path, dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        path = urllib.parse.unquote(path)
        body = self.read_body()
        self.hub.log.append((self.server.name, self.command, self.path, dict(self.headers), body))
        for fault in self.hub.faults:
            if fault["count"] > 0 and fault["server"] in (None, self.server.name) and re.search(fault["path"], self.path) and fault["method"] in (None, self.command):
                fault["count"] -= 1
                if fault["status"]:
                    return self.error(fault["status"], fault.get("code"), fault.get("message", ""), **fault.get("headers", {}))
                if fault["redirect"]:
                    return self.answer(302, b"", {"Location": fault["redirect"]})
                if fault["close"]:
                    self.close_connection = True
                    return
                self.fault = fault
                break
        for pattern, method, function in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in (self.command, "GET" if self.command == "HEAD" else None) and self.server.name in function.servers:
                return function(self, *found.groups(), query=query, body=body)
        self.error(404, None, "no such address: " + path)

    def do(self):
        self.fault = None
        try:
            self.handle_one()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do

    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def repository(self, kind, name):
        """None, and the refusal is sent, where it may not be read."""
        token, repository = self.token(), self.hub.repositories.get((kind, name))
        if token and token not in self.hub.tokens:
            return self.error(401, None, "Invalid credentials in Authorization header")
        if not repository or (repository.private and not token):
            return self.error(404 if token else 401, "RepoNotFound", "Repository not found" if token else "Invalid username or password.")
        return repository

    def send_file(self, data, headers):
        """With ranges, and with the faults of a transfer."""
        fault, status, start = self.fault or {}, 200, 0
        if fault.get("wrong_bytes"):
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and not fault.get("ignore_range"):
            start = int(asked[1])
            if start >= len(data):
                return self.answer(416)
            status = 206
            headers = headers | {"Content-Range": fault.get("content_range") or f"bytes {start}-{len(data) - 1}/{len(data)}"}
        rest = data[start:]
        if fault.get("extra"):
            rest += fault["extra"]
        length = len(rest) + fault.get("length_error", 0)
        sent = rest[: fault["drop_after"]] if fault.get("drop_after") is not None else rest
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault.get("no_length"):
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            if fault.get("slow"):
                for at in range(0, len(sent), 1000):
                    self.wfile.write(sent[at : at + 1000])
                    self.wfile.flush()
                    threading.Event().wait(fault["slow"])
            else:
                self.wfile.write(sent)
        if len(sent) < length:
            self.close_connection = True


ROUTES = []


def route(method, pattern, *servers):
    def add(function):
        function.servers = servers or ("hub",)
        ROUTES.append((pattern, method, function))
        return function

    return add


NAME = r"([\w.-]+(?:/[\w.-]+)?)"


@route("GET", rf"/api/(models|datasets)/{NAME}/revision/(.+)")
def listing(self, kind, name, revision, query, body):
    if not (repository := self.repository(kind, name)):
        return
    if not (commit := repository.resolve(revision)):
        return self.error(404, "RevisionNotFound", "Invalid rev id: " + revision)
    siblings = []
    for path, data in repository.commits[commit].items():
        one = {"rfilename": path}
        if "blobs" in query and not self.hub.names_only:
            one |= {"size": len(data), "blobId": git_sha1(data)}
            if len(data) >= LARGE:
                one |= {"blobId": git_sha1(b"pointer to " + data), "lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 134}}
        siblings.append(one)
    self.answer(200, {"id": name, "modelId": name, "sha": commit, "private": repository.private, "tags": [], "siblings": siblings})


@route("GET", rf"/api/(models|datasets)/{NAME}/tree/([^/]+)")
def tree(self, kind, name, revision, query, body):
    if not (repository := self.repository(kind, name)):
        return
    entries = []
    for path, data in repository.files(revision).items():
        one = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
        if len(data) >= LARGE:
            one["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        entries.append(one)
    self.answer(200, entries)


@route("GET", rf"/(datasets/|){NAME}/resolve/([^/]+)/(.+)")
def resolve(self, kind, name, revision, path, query, body):
    if not (repository := self.repository(kind.rstrip("/") or "models", name)):
        return
    if repository.gated and self.token() not in self.hub.accepted:
        return self.error(403 if self.token() else 401, "GatedRepo", f"Access to model {name} is restricted and you are not in the authorized list.")
    commit = repository.resolve(revision)
    if commit is None or path not in repository.commits[commit]:
        return self.error(404, "EntryNotFound" if commit else "RevisionNotFound", "Entry not found", X_Repo_Commit=commit or "")
    data = repository.commits[commit][path]
    if len(data) < LARGE:
        return self.send_file(data, {"ETag": f'"{git_sha1(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})
    self.hub.large[sha256(data)] = data
    linked = {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
    if self.command == "HEAD" and self.headers.get("User-Agent", "").startswith("loraine"):  # whoever follows ends at the other host
        linked["ETag"] = '"of the redirect"'
    self.answer(302, b"", linked | {"Location": f"{self.hub.files_url}/large/{sha256(data)}?signature=secret-of-the-address"})


@route("GET", r"/large/(\w+)", "files")
def large(self, oid, query, body):
    if "Authorization" in self.headers:
        return self.error(400, None, "Only one auth mechanism allowed")
    self.send_file(self.hub.large[oid], {"ETag": '"some-other-etag"', "Accept-Ranges": "bytes"})


# ModelScope


@route("GET", rf"/api/v1/models/{NAME}/repo/files")
@route("GET", rf"/api/v1/datasets/{NAME}/repo/tree")
def modelscope_files(self, name, query, body):
    kind = "datasets" if "/datasets/" in self.path else "models"
    if not (repository := self.repository(kind, name)):
        return
    if query["Revision"] not in ("master", "v2") and query["Revision"] not in repository.branches:
        return self.answer(404, {"Code": 10010205001, "Message": "no such revision", "Success": False})
    files = [{"Type": "tree", "Path": "folder", "Name": "folder", "Size": 0}]
    files += [{"Type": "blob", "Path": path, "Name": path.rsplit("/")[-1], "Size": len(data), "Sha256": sha256(data), "Revision": "abc"} for path, data in repository.files(query["Revision"] if query["Revision"] in repository.branches else "main").items()]
    if "PageSize" in query:
        first = (int(query["PageNumber"]) - 1) * int(query["PageSize"])
        files = files[first : first + int(query["PageSize"])]
    self.answer(200, {"Code": 200, "Data": {"Files": files}, "Success": True})


@route("GET", rf"/api/v1/(models|datasets)/{NAME}/repo")
def modelscope_file(self, kind, name, query, body):
    if repository := self.repository(kind, name):
        data = repository.files().get(query["FilePath"])
        self.error(404, None, "not found") if data is None else self.send_file(data, {})


# Uploads to ModelScope: as modelscope_hub 0.5 makes them


MASTER = {"master": "main"}  # what the other hub calls main


def good(self, data):
    self.answer(200, {"Code": 200, "Data": data, "Message": "success", "RequestId": "1", "Success": True})


def modelscope_writable(self, name):
    if self.headers.get("Cookie") != f"m_session_id={self.token()}":
        return self.error(401, None, "no cookie of the session")
    return self.writable(name)


Handler.good, Handler.modelscope_writable = good, modelscope_writable


@route("GET", r"/openapi/v1/users/me")
def modelscope_me(self, query, body):
    if self.token() not in self.hub.tokens:
        return self.answer(401, {"success": False, "code": "InvalidAuthentication", "message": "invalid token"})
    self.answer(200, {"success": True, "data": {"preferred_username": self.hub.tokens[self.token()], "nickname": "Some One"}})


@route("GET", rf"/api/v1/models/{NAME}/revisions")
def modelscope_revisions(self, name, query, body):
    if repository := self.repository("models", name):
        branches = [{"Revision": {"main": "master"}.get(branch, branch)} for branch in repository.branches]
        self.good({"RevisionMap": {"Branches": branches, "Tags": []}})


@route("GET", rf"/api/v1/models/{NAME}")
def modelscope_info(self, name, query, body):
    if repository := self.repository("models", name):
        self.good({"Path": name.split("/")[0], "Name": name.split("/")[1]})


@route("POST", r"/api/v1/models")
def modelscope_create(self, query, body):
    asked, user = json.loads(body), self.hub.tokens.get(self.token())
    name = f"{asked['Path']}/{asked['Name']}"
    if not user or asked["Path"] not in (user, "org"):
        return self.answer(403, {"Code": 10010101003, "Message": "you may not make models of " + asked["Path"], "Success": False})
    if ("models", name) in self.hub.repositories:
        return self.answer(400, {"Code": 10010101001, "Message": "模型已存在", "Success": False})
    assert asked["License"] and asked["Visibility"] in (1, 5)
    self.hub.repositories["models", name] = Repository({".gitattributes": b"* text", "README.md": b"a new model"})
    self.hub.repositories["models", name].private = asked["Visibility"] == 1
    self.good({"Id": 1})


@route("POST", rf"/api/v1/repos/models/{NAME}/info/lfs/objects/batch")
def modelscope_batch(self, name, query, body):
    if not self.modelscope_writable(name):
        return
    asked = json.loads(body)
    assert asked["operation"] == "upload"
    objects = []
    for one in asked["objects"]:
        if one["oid"] not in self.hub.large:
            self.hub.expected[one["oid"]] = one["size"]
            host = self.hub.url if self.hub.takes_large else self.hub.files_url
            objects.append({"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": f"{host}/upload/{one['oid']}?signature=secret-of-the-address"}}})
    self.good({"objects": objects})


@route("PUT", r"/upload/(\w+)")
def modelscope_put(self, oid, query, body):
    if self.token() not in self.hub.tokens:
        return self.error(403, None, "who are you?")
    if sha256(body) != oid or len(body) != self.hub.expected[oid]:
        return self.answer(200, {"Code": 10010, "Message": "these are other bytes", "Success": False})
    self.hub.large[oid] = body
    self.good({})


@route("POST", rf"/api/v1/repos/models/{NAME}/commit/(.+)")
def modelscope_commit(self, name, revision, query, body):
    if not (repository := self.modelscope_writable(name)):
        return
    if MASTER.get(revision, revision) not in repository.branches:
        return self.answer(404, {"Code": 10010205001, "Message": "no such branch", "Success": False})
    asked, files = json.loads(body), {}
    assert asked["commit_message"]
    for action in asked["actions"]:
        assert action["action"] in ("create", "update"), action
        if action["type"] == "lfs":
            data = self.hub.large.get(action["sha256"])
            if data is None or len(data) != action["size"] or action["path"].rsplit("/")[-1].lower() in ("config.json", "readme.md"):
                return self.answer(200, {"Code": 10010, "Message": f"the large file {action['path']} was not uploaded", "Success": False})
        else:
            data = base64.b64decode(action["content"], validate=True)
            assert action["encoding"] == "base64" and len(data) == action["size"] <= max(65536, 0 if action["path"] != "config.json" else 1 << 30), action
        files[action["path"]] = data
    repository.commit(files, MASTER.get(revision, revision), asked["commit_message"])
    self.good({"Id": repository.branches[MASTER.get(revision, revision)]})


# Uploads to Hugging Face


@route("GET", r"/api/whoami-v2")
def whoami(self, query, body):
    if self.token() not in self.hub.tokens:
        return self.error(401, None, "Invalid credentials in Authorization header")
    self.answer(200, {"type": "user", "name": self.hub.tokens[self.token()], "orgs": [{"name": "org"}]})


@route("POST", r"/api/repos/create")
def create(self, query, body):
    asked, user = json.loads(body), self.hub.tokens.get(self.token())
    name = f"{asked.get('organization') or user}/{asked['name']}"
    if not user or name.split("/")[0] not in (user, "org"):
        return self.error(403, None, "You don't have the rights to create a model under the namespace")
    if ("models", name) in self.hub.repositories:
        return self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
    repository = self.hub.repositories["models", name] = Repository()
    repository.private = bool(asked.get("private")) or asked.get("visibility") == "private"
    self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})


@route("POST", rf"/api/models/{NAME}/branch/(.+)")
def branch(self, name, revision, query, body):
    if not (repository := self.writable(name)):
        return
    if revision in repository.branches:
        return self.error(409, None, "Reference already exists")
    repository.branches[revision] = repository.branches["main"]
    self.answer(200, {})


def writable(self, name):
    repository = self.repository("models", name)
    if repository and name.split("/")[0] not in (self.hub.tokens.get(self.token()), "org"):
        return self.error(403, None, "you may not write to it")
    return repository


Handler.writable = writable


@route("POST", rf"/api/models/{NAME}/preupload/(.+)")
def preupload(self, name, revision, query, body):
    if not (repository := self.writable(name)):
        return
    files = []
    for one in json.loads(body)["files"]:
        assert len(base64.b64decode(one["sample"])) == min(512, one["size"]), one
        there = repository.files(revision).get(one["path"])
        files.append({"path": one["path"], "uploadMode": "lfs" if one["size"] >= LARGE else "regular", "shouldIgnore": one["path"] in self.hub.ignored,
                      "oid": None if there is None else sha256(there) if len(there) >= LARGE else git_sha1(there)})
    self.answer(200, {"files": files})


@route("POST", rf"/{NAME}\.git/info/lfs/objects/batch")
def batch(self, name, query, body):
    if not self.writable(name):
        return
    asked = json.loads(body)
    assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256" and self.headers["Content-Type"] == "application/vnd.git-lfs+json"
    objects = []
    for one in asked["objects"]:
        oid, size = one["oid"], one["size"]
        answer = {"oid": oid, "size": size}
        if oid not in self.hub.large:
            self.hub.expected[oid] = size
            place = f"{self.hub.files_url}/upload/{oid}"
            if self.hub.part_size and size > self.hub.part_size:
                parts = {f"{i + 1:05}": f"{place}/{i + 1}?signature=secret-of-the-address" for i in range(-(-size // self.hub.part_size))}
                upload = {"href": f"{self.hub.url}/complete/{oid}", "header": {"chunk_size": str(self.hub.part_size)} | parts}
            else:
                upload = {"href": f"{place}?signature=secret-of-the-address"}
            answer["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/verify/{oid}"}}
        objects.append(answer)
    self.answer(200, {"transfer": "basic", "objects": objects})


@route("PUT", r"/upload/(\w+)(?:/(\d+))?", "files")
def put(self, oid, part, query, body):
    if "Authorization" in self.headers:
        return self.error(400, None, "Only one auth mechanism allowed")
    if part:
        self.hub.parts.setdefault(oid, {})[int(part)] = body
        return self.answer(200, b"", {"ETag": f'"part{part}-{sha256(body)[:8]}"'})
    if sha256(body) != oid or len(body) != self.hub.expected[oid]:
        return self.error(400, None, "these are other bytes")
    self.hub.large[oid] = body
    self.answer(200)


@route("POST", r"/complete/(\w+)")
def complete(self, oid, query, body):
    asked = json.loads(body)
    data = b""
    for i, part in enumerate(asked["parts"]):
        assert part["partNumber"] == i + 1
        piece = self.hub.parts[oid][i + 1]
        assert part["etag"] == f'"part{i + 1}-{sha256(piece)[:8]}"', part
        data += piece
    if sha256(data) != oid or asked["oid"] != oid:
        return self.error(400, None, "these are other bytes")
    self.hub.large[oid] = data
    self.answer(200, {})


@route("POST", r"/verify/(\w+)")
def verify(self, oid, query, body):
    asked = json.loads(body)
    if oid not in self.hub.large or asked != {"oid": oid, "size": len(self.hub.large[oid])} or self.token() not in self.hub.tokens:
        return self.error(404, None, "not there")
    self.hub.verified.append(oid)
    self.answer(200, {})


@route("POST", rf"/api/models/{NAME}/commit/(.+)")
def commit(self, name, revision, query, body):
    if not (repository := self.writable(name)):
        return
    if revision not in repository.branches:
        return self.error(404, "RevisionNotFound", "no such branch")
    lines = [json.loads(line) for line in body.decode().splitlines()]
    assert lines[0]["key"] == "header" and lines[0]["value"]["summary"] and self.headers["Content-Type"] == "application/x-ndjson"
    files = {}
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            assert value["encoding"] == "base64"
            files[value["path"]] = base64.b64decode(value["content"], validate=True)
        elif line["key"] == "lfsFile":
            data = self.hub.large.get(value["oid"])
            if data is None or value["algo"] != "sha256" or value["size"] != len(data):
                return self.error(400, None, f"the large file {value['path']} was not uploaded")
            files[value["path"]] = data
        else:
            return self.error(400, None, "unknown operation")
    made = repository.commit(files, revision, lines[0]["value"]["summary"])
    self.answer(200, {"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{name}/commit/{made}"})


@route("GET", rf"/api/models/{NAME}")
def info(self, name, query, body):
    if repository := self.repository("models", name):
        self.answer(200, {"id": name, "sha": repository.branches["main"]})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub, name):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.name = hub, name
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


    def handle_error(self, request, client_address):
        pass  # a client that goes away in the middle of things


class Hub:
    def __init__(self):
        self.repositories, self.tokens, self.accepted = {}, {}, set()
        self.log, self.faults, self.large, self.expected, self.parts, self.verified, self.ignored = [], [], {}, {}, {}, [], set()
        self.names_only, self.part_size, self.takes_large = False, None, False
        self.servers = [Server(self, "hub"), Server(self, "files")]
        self.url, self.files_url = (f"http://{host}:{server.server_address[1]}" for host, server in zip(("127.0.0.1", "localhost"), self.servers))

    def add(self, name, files, kind="models"):
        self.repositories[kind, name] = Repository(files)
        return self.repositories[kind, name]

    def fail(self, path, count=1, server=None, method=None, status=None, redirect=None, close=False, **more):
        """The next `count` requests whose address matches `path` are answered so. Of transfers: drop_after, wrong_bytes, ignore_range, length_error,
        content_range, extra, no_length, slow."""
        self.faults.append(dict(path=path, count=count, server=server, method=method, status=status, redirect=redirect, close=close, **more))

    def asked(self, path="", server=None, method=None):
        """The requests so far whose address matches."""
        return [entry for entry in self.log if re.search(path, entry[2]) and server in (None, entry[0]) and method in (None, entry[1])]

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()


def folder_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
