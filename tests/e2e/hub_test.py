#!/usr/bin/env python3
"""Ids of hubs, against a hub on this machine (tests/support/hub_server.py): what is downloaded, what happens when the hub or the network fails, who
gets the token, and uploads. Run by ctest (label e2e)."""
import http.cookiejar
import itertools
import json
import os
import pathlib
import pickle
import pty
import re
import subprocess
import sys
import threading
import time
import types
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import hub_server
import tiny_model as tiny

SECRET = "hf_ThisIsTheSecretToken"


def cookies(host, token, lasts):
    """A login of modelscope's client for `lasts` seconds: a pickle of requests' cookies, whose classes are made up here."""
    class RequestsCookieJar(http.cookiejar.CookieJar):
        def __getstate__(self):
            return {key: value for key, value in vars(self).items() if key != "_cookies_lock"}
    module = types.ModuleType("requests.cookies")
    RequestsCookieJar.__module__, RequestsCookieJar.__qualname__, module.RequestsCookieJar = module.__name__, "RequestsCookieJar", RequestsCookieJar
    jar = RequestsCookieJar()
    jar.set_cookie(http.cookiejar.Cookie(0, "m_session_id", token, None, False, host, True, False, "/", True, False, int(time.time()) + lasts, False, None, None, {}))
    with unittest.mock.patch.dict(sys.modules, {"requests": types.ModuleType("requests"), "requests.cookies": module}):
        return pickle.dumps(jar, 4)


class HubCase(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        self.hub = hub_server.Hub()
        self.files = hub_server.folder_files(self.model)
        (self.work / "texts.jsonl").write_text('{"text": "sea"}\n')

    def tearDown(self):
        self.hub.stop()
        super().tearDown()

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "MODELSCOPE", "USE_MODELSCOPE", "TRANSFORMERS")) and not name.lower().endswith("_proxy")}
        return kept | {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.work / "home"), "HOME": str(self.work), "MODELSCOPE_ENDPOINT": self.hub.url, "HF_HUB_DOWNLOAD_TIMEOUT": "2"} | more

    def run_with(self, *words, **environment):
        done = subprocess.run([tiny.program, *map(str, words)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, cwd=self.work, env=self.environment(**environment))
        text = done.stdout + done.stderr
        for secret in (SECRET, "secret-of-the-address"):
            self.assertNotIn(secret, text)
        return done.returncode, text

    def open(self, name="org/tiny", *words, **environment):
        """The quickest command that opens a model."""
        return self.run_with("tokenize", "--model_name_or_path", name, "--input", "texts.jsonl", "--output", "ids.jsonl", *words, **environment)

    def repository(self, name="org/tiny", kind="models"):
        return self.work / "home/hub" / (kind + "--" + name.replace("/", "--"))

    def snapshot(self, name="org/tiny", kind="models"):
        repository = self.repository(name, kind)
        return repository / "snapshots" / (repository / "refs/main").read_text()

    def check_snapshot(self, files, name="org/tiny", kind="models"):
        """Exactly these files, each a relative link to the blob of its hash, and nothing half done."""
        folder = self.snapshot(name, kind)
        found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
        self.assertEqual(sorted(found), sorted(files))
        for path, data in files.items():
            self.assertEqual(found[path].read_bytes(), data, path)
            hash = (hub_server.sha256 if len(data) >= hub_server.LARGE else hub_server.git_sha1)(data)
            self.assertEqual(os.readlink(found[path]), "../" * (2 + path.count("/")) + "blobs/" + hash)
        self.assertEqual([path.name for path in self.repository(name, kind).rglob("*") if "incomplete" in path.name or ".tmp-" in path.name], [])


class Downloads(HubCase):
    def test_a_model(self):
        other = {"README.md": b"# card", "pytorch_model.bin": b"x" * 9000, "onnx/model.onnx": b"y" * 9000, "original/consolidated.00.pth": b"z" * 9000, "tf_model.h5": b"t" * 9000}
        wanted = self.files | {"LICENSE": b"free", "generation_config.json": b'{"eos_token_id": 2}', "additional_chat_templates/tools.jinja": b"{{ tools }}"}
        repository = self.hub.add("org/tiny", wanted | other)
        text = self.good(self.open())
        commit = repository.branches["main"]
        self.assertRegex(text, f"downloading org/tiny, revision {commit}: 7 files, .* from 127.0.0.1:\\d+ to {self.repository()}")
        self.assertIn(f"org/tiny: {self.snapshot()} in the local cache, revision {commit}", text)
        self.check_snapshot(wanted)
        self.assertEqual((self.repository() / "refs/main").read_text(), commit)
        listing = json.loads((self.repository() / f"trees/{commit}.json").read_text())
        self.assertEqual(listing["files"]["model.safetensors"]["lfs_sha256"], hub_server.sha256(self.files["model.safetensors"]))
        absent = self.repository() / ".no_exist" / commit
        self.assertIn("merges.txt", [path.name for path in absent.iterdir()])
        self.assertEqual(len(list((self.work / "home/hub/.locks/models--org--tiny").iterdir())), 7)
        # Of what is whole the hub is asked for the branch's commit alone; offline, and for a commit, nothing.
        asked = len(self.hub.log)
        self.assertNotIn("downloading", self.good(self.open()))
        self.assertEqual([(entry[1], entry[2]) for entry in self.hub.log[asked:]], [("GET", "/api/models/org/tiny/revision/main")])
        asked = len(self.hub.log)
        self.good(self.open(HF_HUB_OFFLINE="1"))
        self.good(self.open("org/tiny", "--model_revision", commit))
        self.assertEqual(len(self.hub.log), asked)
        # A newer commit in a cache of its own; what did not change is there by its hash already.
        repository.commit({"generation_config.json": b'{"eos_token_id": [2, 1]}'})
        self.good(self.open("org/tiny", "--model_revision", repository.branches["main"]))
        self.assertEqual(len(self.hub.asked("model.safetensors")), 1)

    def test_a_branch_that_moves(self):
        repository = self.hub.add("org/tiny", self.files)
        self.good(self.open())
        first = repository.branches["main"]
        repository.commit({"generation_config.json": b'{"eos_token_id": [2, 1]}'})
        second = repository.branches["main"]
        self.assertIn(f"revision {first}", self.good(self.open(HF_HUB_OFFLINE="1")))
        text = self.good(self.open())
        self.assertRegex(text, f"downloading org/tiny, revision {second}: \\d+ files?, 24 bytes")
        self.assertIn(f"org/tiny: {self.snapshot()} in the local cache, revision {second}", text)
        self.check_snapshot(self.files | {"generation_config.json": b'{"eos_token_id": [2, 1]}'})
        self.assertEqual((self.repository() / "refs/main").read_text(), second)
        self.assertEqual(len(self.hub.asked("resolve.*model.safetensors")), 1)
        self.assertNotIn("downloading", self.good(self.open()))
        self.assertIn(f"revision {first}", self.good(self.open("org/tiny", "--model_revision", first)))
        # Data sets and adapters follow theirs, too.
        rows = (self.data / "rows.jsonl").read_bytes()
        data = self.hub.add("org/rows", {"rows.jsonl": rows}, "datasets")
        train = lambda out: self.good(self.run_with(*self.arguments(out=self.work / out, dataset="org/rows", max_steps=1)))
        before = re.search(r"examples +(\d+)\n", train("a"))[1]
        data.commit({"more.jsonl": rows})
        self.assertEqual(int(re.search(r"examples +(\d+)\n", train("b"))[1]), 2 * int(before))

    def test_a_hub_that_does_not_say_whether_a_branch_moved(self):
        repository = self.hub.add("org/tiny", self.files)
        self.good(self.open())
        start = time.monotonic()
        for fault in (dict(status=503), dict(status=401), dict(status=404), dict(status=429, headers={"Retry-After": "300"}), dict(close=True)):
            self.hub.log.clear()
            self.hub.fail("/revision/", **fault)
            self.assertRegex(self.good(self.open()), r"in the local cache, revision \w+; whether main has a newer one is not known: 127.0.0.1:\d+")
            self.assertEqual(len(self.hub.log), 1, fault)
        self.assertIn("whether main has a newer one is not known: 127.0.0.1:9: ", self.good(self.open(HF_ENDPOINT="http://127.0.0.1:9")))
        self.assertLess(time.monotonic() - start, 30)
        repository.branches["other"] = repository.branches["main"]
        self.good(self.open("org/tiny", "--model_revision", "other"))
        del repository.branches["other"]
        self.refused(self.open("org/tiny", "--model_revision", "other"), 3, "org/tiny", "has no revision other")
        # What moved and cannot be loaded is told, and goes on later.
        repository.commit({"generation_config.json": b'{"eos_token_id": [2, 1]}'})
        self.hub.fail("resolve.*generation_config.json", count=99, status=404)
        self.refused(self.open(), 3, "org/tiny, generation_config.json")
        self.hub.faults.clear()
        self.assertIn(repository.branches["main"], self.good(self.open()))

    def test_shards_by_the_index(self):
        weights = tiny.llama_tensors()
        names = sorted(weights)
        files = {name: data for name, data in self.files.items() if name != "model.safetensors"}
        index = {}
        for i, part in enumerate((names[:9], names[9:])):
            shard = f"model-{i + 1:05}-of-00002.safetensors"
            tiny.write_safetensors(self.work / shard, {name: weights[name] for name in part})
            files[shard] = (self.work / shard).read_bytes()
            index |= dict.fromkeys(part, shard)
        files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
        self.hub.add("org/tiny", files | {"model-00001-of-00009.safetensors": b"s" * 9000})
        self.good(self.run_with("export", "--model_name_or_path", "org/tiny", "--export_dir", "out"))
        self.check_snapshot(files)
        self.hub.add("org/broken", self.files | {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "absent.safetensors"}}).encode()})
        del self.hub.repositories["models", "org/broken"].files()["model.safetensors"]
        self.refused(self.open("org/broken"), 3, "its index of weights names absent.safetensors, which the repository does not have")
        self.hub.add("org/evil", self.files | {"model.safetensors.index.json": b'{"weight_map": {"a": "../../x"}}'})
        del self.hub.repositories["models", "org/evil"].files()["model.safetensors"]
        self.refused(self.open("org/evil"), 3, "weight_map names no file")

    def test_paths_that_lead_elsewhere(self):
        for path in ("../outside.json", "a/../../b", "/etc/x", "a//b", "a\\b"):
            self.hub.add("org/evil", self.files | {path: b"{}"})
            self.refused(self.open("org/evil"), 3, "which cannot be one")
        self.assertFalse(self.repository("org/evil").exists())

    def test_adapters_and_data_sets(self):
        self.good(self.run_with(*self.arguments(max_steps=1)))
        adapter = hub_server.folder_files(self.out)
        adapter = {name: data for name, data in adapter.items() if "checkpoint-" not in name}
        self.hub.add("org/tiny", self.files)
        self.hub.add("org/adapter", adapter | {"checkpoint-5/optimizer.pt": b"o" * 5000})
        self.hub.add("org/folders", {f"best/{name}": data for name, data in adapter.items()} | {"README.md": b"x"})
        rows = (self.data / "rows.jsonl").read_bytes()
        self.hub.add("org/rows", {"data/train-0.jsonl": rows, "data/train-1.jsonl": rows, "data/test-0.jsonl": rows, "README.md": b"# rows", "picture.png": b"p" * 9000}, "datasets")
        text = self.good(self.run_with(*self.arguments(out=self.work / "on", model="org/tiny", max_steps=1, dataset="org/rows", adapter_name_or_path="org/adapter")))
        self.assertRegex(text, r"examples +48\n")
        self.check_snapshot({"data/train-0.jsonl": rows, "data/train-1.jsonl": rows, "data/test-0.jsonl": rows, "README.md": b"# rows"}, "org/rows", "datasets")
        wanted = ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json", "loraine.json", "chat_template.jinja", "special_tokens_map.json")
        self.check_snapshot({name: adapter[name] for name in wanted if name in adapter}, "org/adapter")
        merged = [self.good(self.run_with("export", "--model_name_or_path", "org/tiny", "--adapter_name_or_path", which, *more, "--export_dir", out))
                  for which, more, out in (("org/adapter", (), "a"), ("org/folders", ("--adapter_folder", "best"), "b"), (self.out.parent, ("--adapter_folder", "out"), "c"))]
        self.assertIn("/best in the local cache", merged[1])
        weights = {(self.work / out / "model.safetensors").read_bytes() for out in "abc"}
        self.assertEqual(len(weights), 1)
        ask = ("export", "--model_name_or_path", "org/tiny", "--export_dir", "d", "--adapter_name_or_path")
        self.refused(self.run_with(*ask, "org/folders"), 3, "is no adapter: it has no adapter_config.json", "adapter_folder")
        self.refused(self.run_with(*ask, "org/folders", "--adapter_folder", "../x"), 2, "adapter_folder is '../x'")
        self.refused(self.run_with(*ask, self.out, "--adapter_folder", "nowhere"), 3, "no such folder (adapter_folder)")
        self.refused(self.run_with(*self.arguments(dataset="org/none")), 3, "org/none: 127.0.0.1", "there is no such data set")
        self.assertRegex(self.good(self.run_with(*self.arguments(out=self.work / "online", max_steps=1, dataset="org/rows", dataset_dir="ONLINE"))), r"examples +48\n")
        self.refused(self.run_with(*self.arguments(dataset_dir="REMOTE:org/rows")), 2, "REMOTE:org/rows", "hf download --repo-type dataset org/rows --local-dir DIR")

    def test_data_sets_that_dataset_info_names(self):
        rows = [{"q": "say one", "a": "one"}, {"q": "say two", "a": "two"}]
        ours, theirs = (json.dumps(rows * n).encode() for n in (2, 3))
        self.hub.add("org/rows", {"rows.json": ours}, "datasets")
        self.hub.add("other/rows", {"rows.json": theirs}, "datasets")
        columns = {"columns": {"prompt": "q", "response": "a"}}
        entries = {"both": {"hf_hub_url": "org/rows", "ms_hub_url": "other/rows", "file_name": "absent.json"} | columns, "second": {"ms_hub_url": "other/rows"} | columns,
                   "subset": {"hf_hub_url": "org/rows", "subset": "en"} | columns, "none": {"hf_hub_url": "org/none"} | columns, "script": {"script_url": "x"}}
        (self.data / "dataset_info.json").write_text(json.dumps(entries))
        numbers = itertools.count()
        train = lambda dataset, **environment: self.run_with(*self.arguments(out=self.work / f"out{next(numbers)}", dataset=dataset, max_steps=1), **environment)
        self.assertRegex(self.good(train("both")), r"examples +4\n")
        self.assertRegex(self.good(train("second")), r"examples +6\n")
        self.assertRegex(self.good(train("both", USE_MODELSCOPE_HUB="1")), r"examples +6\n")
        asked = len(self.hub.log)
        self.good(train("both", HF_HUB_OFFLINE="1"))
        self.assertEqual(len(self.hub.log), asked)
        self.refused(train("none"), 3, "org/none: 127.0.0.1", "there is no such data set")
        self.refused(train("none", HF_HUB_OFFLINE="1"), 2, "the data set org/none of a hub is not on this machine", "unset HF_HUB_OFFLINE")
        self.refused(train("subset"), 3, "no data file is of the subset en")
        self.refused(train("script"), 2, "script_url x is no folder of data files")

    def test_lists_of_data_of_v1(self):
        """A YAML list in a data set's repository, whose sets are repositories too."""
        self.hub.add("org/rows", {"train.jsonl": (self.data / "rows.jsonl").read_bytes()}, "datasets")
        lists = self.hub.add("org/lists", {"info.yaml": b"mine:\n  path: org/rows\n  size: 3\n", "more.jsonl": b"{}\n"}, "datasets")
        (self.work / "v1.yaml").write_text(f"model: {self.model}\nmodel_class: llm\npeft_config:\n  name: lora\ntrain_dataset: org/lists/info.yaml\noutput_dir: v1\nmax_steps: 1\nbf16: false\n")
        code, text = self.run_with("train", "v1.yaml", "template=default", "cutoff_len=64", "dry_run=true")
        self.good((code, text))
        self.assertRegex(text, r"examples +3\n")
        self.assertIn("org/lists/info.yaml: ", text)
        self.assertEqual(self.hub.asked("more.jsonl"), [])  # that one file alone
        asked = len(self.hub.log)
        self.good(self.run_with("train", "v1.yaml", "template=default", "cutoff_len=64", "dry_run=true", HF_HUB_OFFLINE="1"))
        self.assertEqual(len(self.hub.log), asked)
        lists.commit({"info.yaml": b"mine:\n  path: org/rows\n  size: 5\n"}, "main")
        self.assertRegex(self.good(self.run_with("train", "v1.yaml", "template=default", "cutoff_len=64", "dry_run=true")), r"examples +5\n")
        for name, words in {"org/lists/none.yaml": "has no file none.yaml", "org/none/info.yaml": "no such file here, and org/none: 127.0.0.1", "none.yaml": "no such file", "a/b/c/none.yaml": "no such file"}.items():
            self.refused(self.run_with("train", "v1.yaml", f"train_dataset={name}", "dry_run=true"), 2, name, words)

    def test_cache_dir_and_copies(self):
        self.hub.add("org/tiny", self.files)
        self.good(self.open("org/tiny", "--cache_dir", "elsewhere"))
        self.assertTrue((self.work / "elsewhere/models--org--tiny/refs/main").is_file())
        self.good(self.open(HF_HUB_DISABLE_SYMLINKS="1"))
        self.assertFalse((self.snapshot() / "config.json").is_symlink())
        self.assertEqual((self.snapshot() / "config.json").read_bytes(), self.files["config.json"])

    def test_gguf(self):
        self.hub.add("org/gguf", {"m-q4.gguf": b"GGUF", "m-q8.gguf": b"GGUF", "README.md": b""})
        self.refused(self.open("org/gguf"), 3, "org/gguf: holds 2 GGUF files: m-q4.gguf, m-q8.gguf", "hf download org/gguf m-q4.gguf")
        self.hub.add("org/one", {"m-q4.gguf": b"GGUF but nothing more", "README.md": b""})
        self.refused(self.open("org/one"), 3, "m-q4.gguf")
        self.check_snapshot({"m-q4.gguf": b"GGUF but nothing more"}, "org/one")
        self.hub.add("org/nothing", {"README.md": b"", "weights.pt": b""})
        self.refused(self.open("org/nothing"), 3, "neither config.json nor a .gguf file, but README.md, weights.pt")

    def test_a_mirror_that_lists_names_alone(self):
        self.hub.names_only = True
        self.hub.add("org/tiny", self.files)
        self.hub.fail("resolve.*model.safetensors", method="HEAD", status=503)
        self.good(self.open())
        self.check_snapshot(self.files)
        self.assertFalse((self.repository() / "trees").exists())

    def test_modelscope(self):
        self.hub.add("org/tiny-1.5", self.files | {"pytorch_model.bin": b"x" * 5000})
        self.hub.add("org/rows", {f"part{i}.json": b"[]" for i in range(250)} | {"train.jsonl": (self.data / "rows.jsonl").read_bytes()}, "datasets")
        self.hub.tokens[SECRET] = "me"
        text = self.good(self.open("org/tiny-1.5", USE_MODELSCOPE_HUB="1", MODELSCOPE_API_TOKEN=SECRET))
        folder = self.work / ".cache/modelscope/models/org--tiny-1.5/snapshots/master"
        self.assertIn(f"org/tiny-1.5: {folder} in the local cache, revision master", text)
        self.assertEqual(hub_server.folder_files(folder), self.files)
        self.assertTrue(all(f"m_session_id={SECRET}" == entry[3].get("Cookie") for entry in self.hub.log))
        asked = len(self.hub.log)
        self.good(self.open("org/tiny-1.5", USE_MODELSCOPE_HUB="1"))
        self.good(self.open("org/tiny-1.5", USE_MODELSCOPE_HUB="1", HF_HUB_OFFLINE="1"))
        self.assertEqual(len(self.hub.log), asked)
        self.assertRegex(self.good(self.run_with(*self.arguments(dataset="org/rows", max_steps=1), USE_MODELSCOPE_HUB="1")), r"examples +24\n")
        self.assertEqual(len(self.hub.asked("repo/tree")), 2)
        self.hub.add("org/other", self.files)
        self.hub.fail("FilePath=model.safetensors", wrong_bytes=True)
        self.refused(self.open("org/other", USE_MODELSCOPE_HUB="1"), 3, "are not those that it lists")
        self.refused(self.open("org/other", "--model_revision", "v3", USE_MODELSCOPE_HUB="1"), 3, "org/other: ", "no such revision")


class Faults(HubCase):
    """The hub, or the way to it, fails."""

    def setUp(self):
        super().setUp()
        self.hub.add("org/tiny", self.files)
        self.weights = self.files["model.safetensors"]

    def test_dropped_connections_are_resumed(self):
        self.hub.fail("/large/", count=3, drop_after=4000)
        self.hub.fail("resolve.*tokenizer.json", count=1, drop_after=10)
        self.hub.fail("/revision/", close=True)
        self.good(self.open())
        self.check_snapshot(self.files)
        self.assertEqual([entry[3].get("Range") for entry in self.hub.asked("/large/")], [None, "bytes=4000-", "bytes=8000-", "bytes=12000-"])

    def test_a_download_goes_on_where_another_process_left_it(self):
        self.hub.fail("/large/", count=99, drop_after=4000)
        self.hub.fail("/large/", count=99, status=404)
        self.hub.faults[0]["count"] = 1
        self.refused(self.open(), 3)
        partial = self.repository() / "blobs" / (hub_server.sha256(self.weights) + ".incomplete")
        self.assertEqual(partial.read_bytes(), self.weights[:4000])
        self.refused(self.open(HF_HUB_OFFLINE="1"), 3, "is incomplete; missing: model.safetensors", "unset HF_HUB_OFFLINE")
        self.hub.faults.clear()
        self.hub.log.clear()
        self.good(self.open())
        self.assertEqual(self.hub.asked("/large/")[0][3]["Range"], "bytes=4000-")
        self.check_snapshot(self.files)

    def test_what_was_left_of_another_file(self):
        blobs = self.repository() / "blobs"
        blobs.mkdir(parents=True)
        (blobs / (hub_server.sha256(self.weights) + ".incomplete")).write_bytes(b"something else")
        (blobs / (hub_server.git_sha1(self.files["config.json"]) + ".incomplete")).write_bytes(b"longer than it is" * 1000)
        self.good(self.open())
        self.assertEqual([entry[3].get("Range") for entry in self.hub.asked("/large/")], ["bytes=14-", None])
        self.check_snapshot(self.files)

    def test_ranges_that_are_not_heeded(self):
        self.hub.fail("/large/", drop_after=4000)
        self.hub.fail("/large/", ignore_range=True)
        self.good(self.open())
        self.check_snapshot(self.files)

    def test_ranges_of_something_else(self):
        self.hub.fail("/large/", drop_after=4000)
        self.hub.fail("/large/", content_range="bytes 0-99/100")
        self.refused(self.open(), 3, "model.safetensors", "the range 'bytes 0-99/100' where bytes 4000 to")

    def test_lies_about_length(self):
        for more, words in ((dict(length_error=50), "sends {} bytes, and {} bytes are listed"), (dict(extra=b"more"), "sends"), (dict(extra=b"more", no_length=True), "sends more")):
            self.hub.fail("/large/", **more)
            self.refused(self.open(), 3, "org/tiny, model.safetensors: localhost:", words.split("{")[0], f"{len(self.weights)} bytes are listed")
        self.hub.fail("/large/", no_length=True, drop_after=1000)  # ends early without a word
        self.good(self.open())
        self.check_snapshot(self.files)

    def test_wrong_bytes(self):
        self.hub.fail("/large/", wrong_bytes=True)
        self.refused(self.open(), 3, "org/tiny, model.safetensors: the bytes that 127.0.0.1:", "sends are not those that it lists", hub_server.sha256(self.weights))
        self.hub.add("org/other", self.files)
        self.hub.fail("org/other/resolve.*/config.json", wrong_bytes=True)
        self.refused(self.open("org/other"), 3, "org/other, config.json: the bytes that")
        self.assertFalse((self.snapshot() / "model.safetensors").exists())
        self.good(self.open())
        self.check_snapshot(self.files)

    def test_waits_as_long_as_it_is_asked(self):
        self.hub.fail("/revision/", status=429, headers={"Retry-After": "1"})
        self.hub.fail("resolve.*config.json", status=503, headers={"Retry-After": "1"})
        self.hub.fail("/large/", count=2, status=500)
        start = time.monotonic()
        self.good(self.open())
        self.assertGreater(time.monotonic() - start, 3)
        self.hub.fail("/revision/", status=429, headers={"Retry-After": "9999"}, message="We had to rate limit you")
        self.refused(self.open("org/other"), 6, "org/other: 127.0.0.1", "429, too many requests; it asks to wait 9999 seconds (We had to rate limit you)", "send a token")
        self.assertEqual(len(self.hub.asked("org/other")), 1)

    def test_a_hub_that_fails_for_good(self):
        self.hub.fail("/revision/", count=99, status=502)
        self.refused(self.open(), 6, "org/tiny: 127.0.0.1", "answers 502, it fails at present", "run again later")
        self.assertEqual(len(self.hub.asked("/revision/")), 6)

    def test_no_network(self):
        text = self.refused(self.open(HF_ENDPOINT="http://127.0.0.1:9"), 6, "org/tiny: no such model folder or file here, and 127.0.0.1:9: cannot be reached", "HF_ENDPOINT")
        self.assertNotIn("again and again", text)
        self.refused(self.open(HF_ENDPOINT="ftp://x"), 2, "HF_ENDPOINT is no address of a hub")
        self.refused(self.open(HF_HUB_DOWNLOAD_TIMEOUT="soon"), 2, "HF_HUB_DOWNLOAD_TIMEOUT is 'soon'")
        self.good(self.open())
        (self.snapshot() / "model.safetensors").resolve().unlink()
        self.refused(self.open(HF_ENDPOINT="http://127.0.0.1:9"), 6, "is incomplete; missing: model.safetensors; 127.0.0.1:9: cannot be reached")

    def test_a_hub_that_says_nothing(self):
        import socket
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        start = time.monotonic()
        self.refused(self.open(HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}", HF_HUB_DOWNLOAD_TIMEOUT="1"), 6, "the connection failed again and again: no answer came in time")
        self.assertLess(time.monotonic() - start, 60)

    def test_not_a_hub(self):
        self.hub.fail("/revision/", status=418)
        self.refused(self.open(), 3, "answers 418", "HF_ENDPOINT")
        for answer in (b"<html>", b"[]", b'{"sha": "../x", "siblings": []}', b'{"sha": "abc", "siblings": [{"rfilename": "a", "size": -1}]}', b'{"sha": "abc", "siblings": [{"rfilename": "a", "size": 1, "blobId": "../x"}]}'):
            route = next(r for r in hub_server.ROUTES if "revision" in r[0])
            hub_server.ROUTES.insert(0, (route[0], "GET", hub_server.route("GET", "/none")(lambda handler, *_, query, body, answer=answer: handler.answer(200, answer))))
            try:
                self.refused(self.open("org/strange"), 3, "the address that of a hub? (HF_ENDPOINT)")
            finally:
                hub_server.ROUTES.pop(0)
        self.assertFalse(self.repository("org/strange").exists())

    def test_redirects(self):
        self.hub.fail("/revision/", count=99, redirect="/api/models/org/tiny/revision/main")
        self.refused(self.open(), 6, "redirects without end")
        self.hub.faults.clear()
        self.hub.fail("/revision/", redirect="ftp://elsewhere/x")
        self.refused(self.open(), 6, "elsewhere: is no http address")
        self.hub.repositories["models", "org/new-name"] = self.hub.repositories["models", "org/tiny"]
        self.hub.fail("org/tiny/revision", redirect="/api/models/org/new-name/revision/main?blobs=true")
        self.good(self.open())
        self.check_snapshot(self.files)

    def test_no_room(self):
        big = self.hub.add("org/big", self.files)
        route = next(r for r in hub_server.ROUTES if "revision" in r[0])
        siblings = [{"rfilename": name, "size": len(data), "blobId": hub_server.git_sha1(data)} for name, data in self.files.items()]
        siblings[-1]["size"] = 10**18
        answer = json.dumps({"sha": big.branches["main"], "siblings": siblings}).encode()
        hub_server.ROUTES.insert(0, (route[0], "GET", hub_server.route("GET", "/none")(lambda handler, *_, query, body: handler.answer(200, answer))))
        self.addCleanup(hub_server.ROUTES.pop, 0)
        self.refused(self.open("org/big"), 6, "org/big: its files take 9313225", "GiB, and the disk of", "cache_dir")
        self.assertEqual(self.hub.asked("resolve"), [])

    def test_two_processes_load_it_once(self):
        self.hub.fail("/large/", slow=0.1)
        results = []
        threads = [threading.Thread(target=lambda: results.append(self.open())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            self.good(result)
        self.assertEqual(len(self.hub.asked("/large/")), 1)
        self.assertTrue(any("waiting for another process that downloads org/tiny, " in text for _, text in results))
        self.check_snapshot(self.files)

    def test_killed_and_run_again(self):
        self.hub.fail("/large/", slow=0.2)
        child = subprocess.Popen([tiny.program, "tokenize", "--model_name_or_path", "org/tiny", "--input", "texts.jsonl", "--output", "ids.jsonl"], cwd=self.work, env=self.environment(), stderr=subprocess.DEVNULL)
        partial = self.repository() / "blobs" / (hub_server.sha256(self.weights) + ".incomplete")
        while not (partial.exists() and partial.stat().st_size > 2000):
            time.sleep(0.02)
        child.kill()
        child.wait()
        self.good(self.open())
        self.assertRegex(self.hub.asked("/large/")[1][3]["Range"], r"bytes=[2-9]\d\d\d+-")
        self.check_snapshot(self.files)

    def test_progress_on_a_terminal(self):
        def shown(name, **environment):
            leader, follower = pty.openpty()
            child = subprocess.Popen([tiny.program, "tokenize", "--model_name_or_path", name, "--input", "texts.jsonl", "--output", "ids.jsonl"], stderr=follower, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, cwd=self.work, env=self.environment(TERM="xterm", **environment))
            os.close(follower)
            text = b""
            while True:
                try:
                    block = os.read(leader, 4096)
                except OSError:
                    break
                if not block:
                    break
                text += block
            os.close(leader)
            self.assertEqual(child.wait(), 0, text)
            return text.decode()

        for name in ("org/a", "org/b"):
            self.hub.add(name, {path: data + b" " * (path == "tokenizer_config.json") * (1 + ord(name[-1])) for path, data in self.files.items()})
        self.hub.fail("/large/", slow=0.05)
        text = shown("org/a")
        self.assertRegex(text, r"\r  model.safetensors +\d+ %  [\d.]+ KiB / [\d.]+ KiB  [\d.]+ KiB/s  0:0\d left\x1b\[K")
        self.assertRegex(text, r"\r  model.safetensors  100 %  [\d.]+ KiB  [\d.]+ [KM]iB/s\x1b\[K\r?\n")
        self.assertNotIn("100 %", shown("org/b", HF_HUB_DISABLE_PROGRESS_BARS="1"))

    def test_offline_opens_no_socket(self):
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            text = self.refused(self.open(**{variable: "1"}), 3, "org/tiny: no such model folder or file, and no such id in the local caches", "hf download org/tiny")
            self.assertIn(str(self.work / "home/hub"), text)
        self.assertEqual(self.hub.log, [])
        self.good(self.open(HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="1"))


class Tokens(HubCase):
    def setUp(self):
        super().setUp()
        self.hub.tokens[SECRET] = "me"

    def test_only_the_hub_gets_it(self):
        self.hub.add("org/secret", self.files).private = True
        self.refused(self.open("org/secret"), 3, "org/secret: no such model folder or file here, and 127.0.0.1", "answers 401: there is no such model, or it is private and no token was sent", "HF_TOKEN")
        self.refused(self.open("org/secret", HF_TOKEN=SECRET, HF_HUB_DISABLE_IMPLICIT_TOKEN="1"), 3, "no token was sent")
        self.good(self.open("org/secret", HF_TOKEN=SECRET))
        self.hub.fail("config.json", redirect=self.hub.files_url + "/elsewhere")  # small files, too
        self.refused(self.open("org/secret", "--cache_dir", "again", HF_TOKEN=SECRET), 3, "org/secret, ")
        with_token = [entry for entry in self.hub.log if "Authorization" in entry[3]]
        self.assertTrue(with_token)
        self.assertEqual({entry[0] for entry in with_token}, {"hub"})
        self.assertTrue(self.hub.asked(server="files"))

    def test_where_it_comes_from(self):
        self.hub.add("org/secret", self.files).private = True
        (self.work / "home").mkdir()
        (self.work / "home/token").write_text(SECRET + "\n")
        (self.work / "other").write_text(SECRET)
        places = [({}, ()), ({"HF_TOKEN_PATH": str(self.work / "other"), "HF_HOME": str(self.work / "home2")}, ()), ({"HUGGING_FACE_HUB_TOKEN": SECRET, "HF_HOME": str(self.work / "home3")}, ()),
                  ({"HF_TOKEN": "wrong", "HF_HOME": str(self.work / "home4")}, ("--hf_hub_token", SECRET))]
        for environment, words in places:
            self.good(self.open("org/secret", *words, **environment))
        self.refused(self.open("org/secret", HF_TOKEN="hf_wrong", HF_HOME=str(self.work / "home5")), 3, "does not accept the token of HF_TOKEN (Invalid credentials in Authorization header)", "/settings/tokens")
        self.refused(self.open("org/none", HF_TOKEN=SECRET), 3, "answers 404: there is no such model, or it is private and the token of HF_TOKEN may not read it")
        self.refused(self.open("org/none", HF_TOKEN="two\nlines"), 2, "the token of HF_TOKEN holds blanks or letters that no token has")

    def test_the_login_of_modelscope(self):
        """What `modelscope login` keeps counts where no token is given, and goes to the hub that it is of."""
        self.hub.add("org/tiny", self.files)
        folder = self.work / ".modelscope/credentials"
        folder.mkdir(parents=True)
        for name, (host, lasts, environment, wanted) in {
            "its own": ("127.0.0.1", 1000, {}, SECRET), "expired": ("127.0.0.1", -1000, {}, None), "another hub's": ("www.modelscope.cn", 1000, {}, None),
            "a token that is set": ("127.0.0.1", 1000, {"MODELSCOPE_API_TOKEN": "other"}, "other"), "none": ("127.0.0.1", 1000, {"MODELSCOPE_API_TOKEN": ""}, None)}.items():
            with self.subTest(name):
                self.hub.log.clear()
                (folder / "cookies").write_bytes(cookies(host, SECRET, lasts))
                self.hub.tokens["other"] = "me"
                self.good(self.open("org/tiny", "--cache_dir", name, USE_MODELSCOPE_HUB="1", **environment))
                self.assertTrue(self.hub.log)
                self.assertEqual({entry[3].get("Cookie") for entry in self.hub.log}, {wanted and f"m_session_id={wanted}"})
        (folder / "cookies").write_bytes(b"no pickle")
        self.refused(self.open("org/tiny", "--cache_dir", "broken", USE_MODELSCOPE_HUB="1"), 3, "expected the cookies that modelscope login writes", "MODELSCOPE_API_TOKEN")

    def test_gated(self):
        self.hub.add("org/gated", self.files).gated = True
        self.refused(self.open("org/gated"), 3, "access is given only to who accepts its conditions", f"accept them at {self.hub.url}/org/gated")
        self.refused(self.open("org/gated", HF_TOKEN=SECRET), 3, "answers 403", "with the account of the token (HF_TOKEN)")
        self.hub.accepted.add(SECRET)
        self.good(self.open("org/gated", HF_TOKEN=SECRET))

    def test_revisions(self):
        repository = self.hub.add("org/tiny", self.files)
        repository.commit({"generation_config.json": b"{}"}, "pr/1")
        self.refused(self.open("org/tiny", "--model_revision", "v9"), 3, "has no revision v9 of it", "model_revision")
        self.refused(self.open("org/tiny", "--model_revision", "../x"), 2, "model_revision is '../x'")
        repository.branches["pr/1"] = repository.commit(self.files, "pr/1")
        self.good(self.open("org/tiny", "--model_revision", "pr/1"))
        self.assertEqual((self.repository() / "refs/pr/1").read_text(), repository.branches["pr/1"])
        self.refused(self.open("org/tiny", "--model_revision", "v2", HF_HUB_OFFLINE="1"), 3, "has no revision v2", "it has " + repository.branches["pr/1"])

    def test_it_is_kept_nowhere(self):
        self.hub.add("org/tiny", self.files)
        (self.work / "run.yaml").write_text(f"hf_hub_token: {SECRET}\nhub_token: {SECRET}\nms_hub_token: {SECRET}\n")
        text = self.good(self.run_with("train", "run.yaml", *[f"{word[2:]}={value}" for word, value in zip(*[iter(self.arguments(model="org/tiny", max_steps=1, save_steps=1)[1:])] * 2)]))
        for path in self.out.rglob("*"):
            self.assertNotIn(SECRET.encode(), path.read_bytes() if path.is_file() else b"")
        self.refused(self.open("org/tiny", "--hf_hub_token"), 2, "--hf_hub_token")
        (self.work / "bad.yaml").write_text(f"hf_hub_token: [{SECRET}]\n")
        self.refused(self.run_with("tokenize", "bad.yaml"), 2, "hf_hub_token is a value that is not shown")


class Uploads(HubCase):
    def setUp(self):
        super().setUp()
        self.hub.tokens[SECRET] = "me"

    def train(self, *words, **changes):
        environment = {name: changes.pop(name) for name in list(changes) if name.isupper()}
        return self.run_with(*self.arguments(**(dict(max_steps=2, push_to_hub="true") | changes)), *words, **(dict(HF_TOKEN=SECRET) | environment))

    def check_repository(self, name, folder, branch="main"):
        there, here = self.hub.repositories["models", name].files(branch), hub_server.folder_files(folder)
        here = {path: data for path, data in here.items() if not path.startswith((".", "checkpoint-")) and path != "loraine_run.json"}
        self.assertEqual(sorted(there), sorted(here))
        self.assertEqual(there, here)

    def test_after_training(self):
        text = self.good(self.train())
        self.assertRegex(text, rf"uploading \d+ files, \d+ bytes, to {self.hub.url}/me/out\n")
        self.assertRegex(text, rf"uploaded \d+ files to {self.hub.url}/me/out/commit/\w{{40}}\n")
        self.check_repository("me/out", self.out)
        repository = self.hub.repositories["models", "me/out"]
        self.assertIn("adapter_model.safetensors", repository.files())
        self.assertIn("README.md", repository.files())
        self.assertEqual(repository.messages[-1], "End of training")
        self.assertFalse(repository.private)
        self.assertIn(hub_server.sha256((self.out / "adapter_model.safetensors").read_bytes()), self.hub.verified)
        # Nothing new, then one file.
        self.assertIn("nothing to upload: ", self.good(self.run_with("upload", self.out, HF_TOKEN=SECRET)))
        (self.out / "README.md").write_text("# mine")
        self.assertIn("uploaded 1 file to ", self.good(self.run_with("upload", str(self.out) + "/", "--hub_model_id", "me/out", HF_TOKEN=SECRET)))
        self.check_repository("me/out", self.out)
        # It is a model that others find by its id.
        self.hub.add("org/tiny", self.files)
        self.good(self.run_with("export", "--model_name_or_path", "org/tiny", "--adapter_name_or_path", "me/out", "--export_dir", "merged"))

    def test_names_branches_and_strategies(self):
        text = self.good(self.train("--hub_model_id", "org/new", "--hub_private_repo", "--hub_revision", "first/try", "--hub_strategy", "checkpoint", "--hub_token", SECRET, HF_TOKEN="wrong"))
        self.assertIn("note: hub_strategy: checkpoint uploads once, at the end", text)
        self.assertTrue(self.hub.repositories["models", "org/new"].private)
        self.check_repository("org/new", self.out, "first/try")
        self.assertEqual(self.hub.repositories["models", "org/new"].files(), {})

    def test_parts(self):
        self.hub.part_size = 3000
        self.good(self.train())
        self.check_repository("me/out", self.out)
        self.assertGreater(len(self.hub.asked("/upload/.*/[23]")), 1)
        self.assertEqual([entry for entry in self.hub.log if entry[0] == "files" and "Authorization" in entry[3]], [])

    def test_an_exported_model(self):
        self.good(self.run_with("export", "--model_name_or_path", self.model, "--export_dir", "merged", "--export_hub_model_id", "me/merged", "--hf_hub_token", SECRET))
        self.check_repository("me/merged", self.work / "merged")

    def test_what_is_wrong_is_said_before_the_run(self):
        self.refused(self.train(HF_TOKEN=""), 2, "needs an access token, and none is set", "HF_TOKEN")
        self.refused(self.train(HF_HUB_OFFLINE="1"), 2, "an upload is asked for, and HF_HUB_OFFLINE")
        self.refused(self.train(HF_TOKEN="hf_other"), 3, "does not accept the token of HF_TOKEN")
        self.refused(self.train(hub_model_id="someone/else"), 3, "while making the repository: someone/else: 127.0.0.1", "may not write there (You don't have the rights", "permission to write")
        self.refused(self.train(hub_model_id="a/b/c"), 2, "hub_model_id is 'a/b/c', which is no name of a repository")
        self.assertFalse((self.out / "adapter_model.safetensors").exists())
        self.refused(self.run_with("upload", "nowhere", HF_TOKEN=SECRET), 2, "nowhere: no such folder")

    def test_a_failed_upload_loses_nothing(self):
        for fault in (dict(path="/commit/", status=400, message="a fault"), dict(path="/upload/", status=403), dict(path="/verify/", status=404), dict(path="/objects/batch", status=422),
                      dict(path="/preupload/", status=413), dict(path="/upload/", status=500, count=9)):
            out = self.work / f"out{len(self.hub.log)}"
            self.hub.faults.clear()
            self.hub.large.clear()
            self.hub.fail(**fault)
            text = self.refused(self.train(out=out, max_steps=1), 6 if fault["status"] == 500 else 3, f"{out} holds all of it, only the upload to me/{out.name} failed")
            again = re.search(r"then upload it again: loraine (upload \S+ --hub_model_id \S+)\n", text)[1]
            self.assertTrue((out / "adapter_model.safetensors").exists())
            self.assertEqual(self.hub.repositories["models", "me/" + out.name].files(), {})
            self.hub.faults.clear()
            self.good(self.run_with(*again.split(), HF_TOKEN=SECRET))
            self.check_repository("me/" + out.name, out)

    def test_dropped_and_slowed_down(self):
        self.hub.fail("/upload/", count=2, close=True)
        self.hub.fail("/commit/", status=429, headers={"Retry-After": "1"})
        self.hub.fail("whoami", status=503)
        self.good(self.train())
        self.check_repository("me/out", self.out)

    def test_what_the_hub_ignores_or_has(self):
        self.hub.ignored.add("trainer_log.jsonl")
        self.good(self.train())
        self.assertNotIn("trainer_log.jsonl", self.hub.repositories["models", "me/out"].files())
        self.good(self.run_with("upload", self.out, "--hub_model_id", "me/copy", HF_TOKEN=SECRET))  # the large contents are there already
        self.assertEqual(len(self.hub.asked("/upload/")), len({entry[2] for entry in self.hub.asked("/upload/")}))
        self.assertEqual(self.hub.repositories["models", "me/copy"].files(), self.hub.repositories["models", "me/out"].files())


class ModelScopeUploads(HubCase):
    def setUp(self):
        super().setUp()
        self.hub.tokens[SECRET] = "me"

    def environment(self, **more):
        return super().environment(**dict(dict(USE_MODELSCOPE_HUB="1", HF_ENDPOINT="http://127.0.0.1:1", MODELSCOPE_API_TOKEN=SECRET), **more))

    def train(self, *words, **changes):
        environment = {name: changes.pop(name) for name in list(changes) if name.isupper()}
        return self.run_with(*self.arguments(**(dict(max_steps=2, push_to_hub="true") | changes)), *words, **environment)

    def check_repository(self, name, folder, branch="main"):
        there, here = self.hub.repositories["models", name].files(branch), hub_server.folder_files(folder)
        here = {path: data for path, data in here.items() if not path.startswith((".", "checkpoint-")) and path != "loraine_run.json"}
        made = {".gitattributes", "README.md"} - here.keys()  # by the hub
        self.assertEqual({path: data for path, data in there.items() if path not in made}, here)

    def test_after_training(self):
        text = self.good(self.train())
        self.assertRegex(text, rf"uploading \d+ files, \d+ bytes, to {self.hub.url}/models/me/out\n")
        self.assertRegex(text, rf"uploaded \d+ files to {self.hub.url}/models/me/out\n")
        self.check_repository("me/out", self.out)
        repository = self.hub.repositories["models", "me/out"]
        self.assertFalse(repository.private)
        self.assertEqual(repository.messages[-1], "End of training")
        self.assertIn(hub_server.sha256((self.out / "adapter_model.safetensors").read_bytes()), self.hub.large)  # by its name; it is small
        self.assertNotIn(hub_server.sha256((self.out / "adapter_config.json").read_bytes()), self.hub.large)
        # The other host, which takes large contents, sees no token; the hub itself sees both forms of it.
        self.assertEqual([entry for entry in self.hub.log if entry[0] == "files" and ("Authorization" in entry[3] or "Cookie" in entry[3])], [])
        self.assertTrue(self.hub.asked("/upload/", server="files"))
        self.assertIn("nothing to upload: ", self.good(self.run_with("upload", self.out)))
        (self.out / "README.md").write_text("# mine")
        self.assertIn("uploaded 1 file to ", self.good(self.run_with("upload", self.out, "--hub_model_id", "me/out")))
        self.check_repository("me/out", self.out)
        self.good(self.run_with("export", "--model_name_or_path", self.model, "--adapter_name_or_path", "me/out", "--export_dir", "merged", "--export_hub_model_id", "org/merged", "--hub_private_repo"))
        self.check_repository("org/merged", self.work / "merged")
        self.assertTrue(self.hub.repositories["models", "org/merged"].private)

    def test_contents_that_the_hub_takes_itself(self):
        self.hub.takes_large = True
        self.good(self.train("--ms_hub_token", SECRET, MODELSCOPE_API_TOKEN="ms-wrong"))
        self.check_repository("me/out", self.out)
        self.assertEqual(self.hub.asked(server="files"), [])
        asked = len(self.hub.asked("/upload/"))
        self.good(self.run_with("upload", self.out, "--hub_model_id", "me/copy"))  # it says nothing of contents that it has
        self.check_repository("me/copy", self.out)
        self.assertEqual(len(self.hub.asked("/upload/")), asked)

    def test_branches(self):
        self.refused(self.train(hub_revision="v2"), 3, "me/out: ", "has no branch v2 of it, and lets none be made but by git", "leave hub_revision out")
        self.assertFalse((self.out / "adapter_model.safetensors").exists())
        repository = self.hub.repositories["models", "me/out"]
        repository.branches["v2"] = repository.branches["main"]
        self.good(self.train(hub_revision="v2"))
        self.assertIn("adapter_model.safetensors", repository.files("v2"))
        self.assertNotIn("adapter_model.safetensors", repository.files("main"))

    def test_what_is_wrong_is_said_before_the_run(self):
        self.refused(self.train(MODELSCOPE_API_TOKEN=""), 2, "needs an access token, and none is set", "/my/myaccesstoken", "MODELSCOPE_API_TOKEN or ms_hub_token")
        self.refused(self.train(HF_HUB_OFFLINE="1"), 2, "an upload is asked for, and HF_HUB_OFFLINE")
        self.refused(self.train(MODELSCOPE_API_TOKEN="ms-other"), 3, "does not accept the token of MODELSCOPE_API_TOKEN")
        self.refused(self.train(hub_model_id="someone/else"), 3, "while making the repository: someone/else: 127.0.0.1", "may not write there (you may not make models of someone)")
        # Hugging Face's token does not go to another hub.
        self.refused(self.train("--hub_token", SECRET, MODELSCOPE_API_TOKEN="", HF_TOKEN=SECRET), 2, "none is set")
        self.assertFalse((self.out / "adapter_model.safetensors").exists())

    def test_a_failed_upload_loses_nothing(self):
        self.hub.takes_large = True
        for fault in (dict(path="/commit/", status=400, message="a fault"), dict(path="/upload/", status=403), dict(path="/objects/batch", status=422), dict(path="/upload/", status=500, count=9)):
            out = self.work / f"out{len(self.hub.log)}"
            self.hub.faults.clear()
            self.hub.large.clear()
            self.hub.fail(**fault)
            text = self.refused(self.train(out=out, max_steps=1), 6 if fault["status"] == 500 else 3, f"{out} holds all of it, only the upload to me/{out.name} failed")
            again = re.search(r"then upload it again: USE_MODELSCOPE_HUB=1 loraine (upload \S+ --hub_model_id \S+)\n", text)[1]
            self.assertNotIn("adapter_model.safetensors", self.hub.repositories["models", "me/" + out.name].files())
            self.hub.faults.clear()
            self.good(self.run_with(*again.split()))
            self.check_repository("me/" + out.name, out)

    def test_dropped_and_slowed_down(self):
        self.hub.fail("/upload/", count=2, close=True)
        self.hub.fail("/commit/", status=429, headers={"Retry-After": "1"})
        self.hub.fail("users/me", status=503)
        self.good(self.train())
        self.check_repository("me/out", self.out)


if __name__ == "__main__":
    unittest.main()
