#!/usr/bin/env python3
"""Uploads and downloads of build/loraine against the modelscope_hub client, on a hub of this machine (tests/support/hub_server.py): what one of them
uploaded the other loads. Called by tools/interop.sh."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tests/support"))
import hub_server
import tiny_model as tiny

import interop_checks
from interop_checks import check

program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))
work = pathlib.Path(tempfile.mkdtemp(prefix="loraine_modelscope_"))
hub = hub_server.Hub()
hub.tokens["ms-token"] = "me"
hub.takes_large = True  # the client sends its token wherever it is told to; the other host refuses it
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ |= {"HOME": str(work), "MODELSCOPE_ENDPOINT": hub.url, "MODELSCOPE_CACHE": str(work / "cache"), "MODELSCOPE_API_TOKEN": "ms-token", "USE_MODELSCOPE_HUB": "1"}
os.environ.pop("HF_HUB_OFFLINE", None)  # of tests/support
import modelscope_hub


def loraine(*words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, cwd=work)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0, done.stdout + done.stderr


def opens(name):
    (work / "texts.jsonl").write_text('{"text": "sea"}\n')
    return loraine("tokenize", "--model_name_or_path", name, "--input", "texts.jsonl", "--output", "ids.jsonl")[0]


def main():
    print(f"modelscope_hub {modelscope_hub.__version__}")
    api = modelscope_hub.HubApi()
    model = tiny.write_model(work / "model")
    tiny.write_tokenizer(model)
    files = hub_server.folder_files(model)

    good, text = loraine("upload", model, "--hub_model_id", "me/ours")
    check("loraine uploads a model", good and hub.repositories["models", "me/ours"].files().items() >= files.items())
    there = pathlib.Path(api.download_repo("me/ours", repo_type="model"))
    check("  modelscope_hub loads it", hub_server.folder_files(there).items() >= files.items())

    api.upload_folder(repo_id="me/theirs", repo_type="model", folder_path=model)
    theirs = hub.repositories["models", "me/theirs"].files()
    check("modelscope_hub uploads a model", theirs.items() >= files.items())
    check("  loraine opens it", opens("me/theirs"))
    good, text = loraine("upload", model, "--hub_model_id", "me/theirs")
    check("  and would send none of it again", good and "nothing to upload" in text)
    # Its login, in the place of the variable; the model is of a new cache, so that it is asked for.
    del os.environ["MODELSCOPE_API_TOKEN"]
    hub.repositories["models", "me/theirs"].private = True
    os.environ["MODELSCOPE_CACHE"] = str(work / "again")
    check("without a login it is refused", not opens("me/theirs"))
    modelscope_hub.config.HubConfig(endpoint=hub.url).save_token("ms-token")
    check("  with the client's login it opens", opens("me/theirs"))
    # Which files went apart from the commit: the same ones.
    apart = [entry[4] for entry in hub.log if entry[1] == "POST" and entry[2].endswith("/objects/batch")]
    check("  both sent the same contents apart from the commit", len(apart) == 2 and names_in(apart[0]) == names_in(apart[1]))
    print(f"{interop_checks.failures} checks failed" if interop_checks.failures else "all well")
    return 1 if interop_checks.failures else 0


def names_in(body):
    return sorted(one["oid"] for one in json.loads(body)["objects"])


try:
    sys.exit(main())
finally:
    hub.stop()
    shutil.rmtree(work, ignore_errors=True)
