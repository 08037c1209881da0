#!/usr/bin/env python3
"""The cache and the uploads of build/loraine against the huggingface_hub client, on a hub of this machine (tests/support/hub_server.py): what one of
them loaded the other finds, and what one uploaded the other loads. Called by tools/interop.sh."""
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
work = pathlib.Path(tempfile.mkdtemp(prefix="loraine_hub_"))
hub = hub_server.Hub()
hub.tokens["hf_token"] = "me"
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
import huggingface_hub
import transformers


def loraine(*words, **environment):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, env=os.environ | environment, cwd=work)
    return done.returncode, done.stdout + done.stderr


def opens(name, **environment):
    (work / "texts.jsonl").write_text('{"text": "sea"}\n')
    code, text = loraine("tokenize", "--model_name_or_path", name, "--input", "texts.jsonl", "--output", "ids.jsonl", **environment)
    if code:
        print(text)
    return code == 0


def transfers():
    """Requests that brought the content of a file."""
    return [entry for entry in hub.log if entry[1] == "GET" and ("/resolve/" in entry[2] or "/large/" in entry[2])]


def main():
    print(f"huggingface_hub {huggingface_hub.__version__}, transformers {transformers.__version__}")
    model = tiny.write_model(work / "model")
    tiny.write_tokenizer(model)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    files = hub_server.folder_files(model)

    hub.add("org/ours", files)
    check("loraine loads a model", opens("org/ours"))
    before = len(transfers())
    for path, data in files.items():
        found = huggingface_hub.try_to_load_from_cache("org/ours", path)
        check(f"  try_to_load_from_cache finds {path}", isinstance(found, str) and pathlib.Path(found).read_bytes() == data)
        check(f"  hf_hub_download takes {path} as it is", pathlib.Path(huggingface_hub.hf_hub_download("org/ours", path)).read_bytes() == data)
    check("  what the repository has not is known to be absent", huggingface_hub.try_to_load_from_cache("org/ours", "merges.txt") is huggingface_hub.file_download._CACHED_NO_EXIST)
    check("  snapshot_download, offline", hub_server.folder_files(pathlib.Path(huggingface_hub.snapshot_download("org/ours", local_files_only=True))) == files)
    check("  snapshot_download, online", hub_server.folder_files(pathlib.Path(huggingface_hub.snapshot_download("org/ours"))) == files)
    check("  nothing was loaded twice", len(transfers()) == before)
    info = huggingface_hub.scan_cache_dir()
    check("  scan_cache_dir has nothing to say", not info.warnings and [repo.repo_id for repo in info.repos] == ["org/ours"])
    check("  transformers opens it, offline", transformers.AutoModelForCausalLM.from_pretrained("org/ours", local_files_only=True).config.hidden_size == tiny.channels)

    hub.add("org/theirs", files)
    huggingface_hub.snapshot_download("org/theirs")
    before, asked = len(transfers()), len(hub.log)
    check("what snapshot_download loaded opens in loraine, offline", opens("org/theirs", HF_HUB_OFFLINE="1") and len(hub.log) == asked)
    check("  and online, where the branch is asked for and no file", opens("org/theirs") and len(transfers()) == before)

    hub.add("org/half", files)
    for path in ("config.json", "tokenizer.json"):
        huggingface_hub.hf_hub_download("org/half", path)
    before = len(transfers())
    check("what hf_hub_download began loraine completes", opens("org/half"))
    again = [entry[2] for entry in transfers()[before:] if entry[2].endswith(("/config.json", "/tokenizer.json"))]
    check("  without loading its files again", not again)

    hub.add("org/rows", {"data/train-0.jsonl": b'{"input": "x"}\n', "README.md": b"# rows"}, "datasets")
    rows = tiny.write_rows(work / "rows")
    loraine(*tiny.train_arguments("org/ours", rows, work / "none", dataset="org/rows", max_steps=1))
    check("a data set that loraine loaded", pathlib.Path(huggingface_hub.hf_hub_download("org/rows", "data/train-0.jsonl", repo_type="dataset", local_files_only=True)).is_file())

    for parts, name in ((None, "whole"), (3000, "in parts")):
        hub.part_size = parts
        hub.large.clear()
        code, text = loraine(*tiny.train_arguments("org/ours", rows, work / f"out_{parts}", max_steps=1, push_to_hub="true", hub_token="hf_token"))
        there = pathlib.Path(huggingface_hub.snapshot_download(f"me/out_{parts}", cache_dir=work / "fresh"))
        check(f"an adapter that loraine uploaded, large files {name}, loads with huggingface_hub",
              code == 0 and (there / "adapter_model.safetensors").read_bytes() == (work / f"out_{parts}/adapter_model.safetensors").read_bytes())
    hub.part_size = None
    hub.large.clear()
    huggingface_hub.create_repo("me/pushed", token="hf_token")
    huggingface_hub.upload_folder(repo_id="me/pushed", folder_path=model, token="hf_token")
    check("a model that huggingface_hub uploaded opens in loraine", opens("me/pushed"))
    check("  and has the same files", hub.repositories["models", "me/pushed"].files() == files)
    code, text = loraine("upload", model, "--hub_model_id", "me/pushed", HF_TOKEN="hf_token")
    check("  none of which loraine would send again", code == 0 and "nothing to upload" in text)
    print(f"{interop_checks.failures} checks failed" if interop_checks.failures else "all well")
    return 1 if interop_checks.failures else 0


try:
    sys.exit(main())
finally:
    hub.stop()
    shutil.rmtree(work, ignore_errors=True)
