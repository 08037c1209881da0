#!/usr/bin/env python3
"""Sends the report of a training run to the trackers that its report_to named, through each tracker's own client.

python3 OUTPUT_DIR/report/send.py [wandb|mlflow|swanlab|trackio ...]

It lies in the report folder beside metrics.jsonl, config.json and run.json (loraine's docs/interop.md describes them). Called again, while the
run goes on or after it was resumed, it sends what is new to the same run: sent.json holds how far each tracker is. Passwords, servers and
offline modes are the clients' own business: WANDB_MODE, MLFLOW_TRACKING_URI, SWANLAB_API_KEY, … count as always.
"""
import json
import os
import pathlib
import re
import sys

folder = pathlib.Path(__file__).resolve().parent
SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")  # of a whole run


def tagged(values):
    """loss → train/loss, eval_loss → eval/loss, as transformers names them for these trackers."""
    tags = {}
    for key, value in values.items():
        split, _, rest = key.partition("_")
        tags[f"{split}/{rest}" if split in ("eval", "test") and rest else f"train/{key}"] = value
    return tags


def parts(entry):
    """(step, seconds since 1970, values, values of the whole run)"""
    values = {key: value for key, value in entry.items() if key not in ("step", "time")}
    return entry["step"], entry["time"], {k: v for k, v in values.items() if k not in SUMMARY}, {k: v for k, v in values.items() if k in SUMMARY}


def send_wandb(run, place, config, entries, known):
    import wandb
    client = wandb.init(project=os.environ.get("WANDB_PROJECT", place["project"]), name=run["name"], id=run["id"], resume="allow", config=config)
    client.define_metric("train/global_step")
    client.define_metric("*", step_metric="train/global_step", step_sync=True)
    for step, time, values, summary in map(parts, entries):
        client.summary.update(summary)
        client.log({**tagged(values), "train/global_step": step, "_timestamp": time})
    client.finish()


def send_mlflow(run, place, config, entries, known):
    import mlflow
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME", place["experiment"]):
        mlflow.set_experiment(name)
    known_id = known or os.environ.get("MLFLOW_RUN_ID")
    with mlflow.start_run(run_id=known_id, run_name=None if known_id else run["name"]) as active:
        client, run_id = mlflow.MlflowClient(), active.info.run_id
        if not known:
            settings = [(key, value) for key, value in config.items() if len(str(value)) <= 250]  # its servers refuse longer ones
            for first in range(0, len(settings), 100):
                mlflow.log_params(dict(settings[first:first + 100]))
            if tags := os.environ.get("MLFLOW_TAGS"):
                mlflow.set_tags(json.loads(tags))
        for step, time, values, summary in map(parts, entries):
            for key, value in {**values, **summary}.items():
                client.log_metric(run_id, re.sub(r"[^0-9A-Za-z_\-. :/]", "_", key), value, timestamp=int(time * 1000), step=step)
    return run_id


def send_swanlab(run, place, config, entries, known):
    import swanlab
    mode = os.environ.get("SWANLAB_MODE", place["mode"])
    options = dict(project=os.environ.get("SWANLAB_PROJECT", place["project"]), workspace=place["workspace"], config=config, mode=mode,
                   experiment_name=place["run_name"] or run["name"], logdir=place["logdir"])
    if mode != "local":  # a run on this machine alone cannot be gone on with
        options |= dict(id=os.environ.get("SWANLAB_RUN_ID", run["id"]), resume="allow")
    client = swanlab.init(**{key: value for key, value in options.items() if value is not None})
    for step, _, values, summary in map(parts, entries):
        swanlab.log({**tagged(values), **{f"single_value/{key}": value for key, value in summary.items()}, "train/global_step": step}, step=step)
    swanlab.finish()


def send_trackio(run, place, config, entries, known):
    import trackio
    options = dict(project=place["project"], name=run["name"], resume="allow", config=config, space_id=place["space_id"], bucket_id=place["bucket_id"])
    trackio.init(**{key: value for key, value in options.items() if value is not None})
    for step, _, values, summary in map(parts, entries):
        trackio.log({**tagged(values), **summary, "train/global_step": step}, step=step)
    trackio.finish()


SENDERS = {"wandb": send_wandb, "mlflow": send_mlflow, "swanlab": send_swanlab, "trackio": send_trackio}


def main():
    run, settings = (json.loads((folder / name).read_text("utf-8")) for name in ("run.json", "config.json"))
    config = {**{key: value for key, value in run["model_config"].items() if isinstance(value, (str, int, float))}, **settings}
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    asked = sys.argv[1:] or list(run["trackers"])
    if unknown := [name for name in asked if name not in run["trackers"]]:
        sys.exit(f"{', '.join(unknown)}: report_to of this run named {', '.join(run['trackers']) or 'none of these trackers'}")
    record = folder / "sent.json"
    sent = json.loads(record.read_text("utf-8")) if record.exists() else {}
    for name in asked:
        past = sent.get(name, {"step": -1, "lines_of_step": 0, "run": None})
        last, same = [entry for entry in entries if entry["step"] > past["step"]], [entry for entry in entries if entry["step"] == past["step"]]
        new = same[past["lines_of_step"]:] + last
        if not new:
            print(f"{name}: nothing new")
            continue
        try:
            known = SENDERS[name](run, run["trackers"][name], config, new, past["run"])
        except ModuleNotFoundError as error:
            sys.exit(f"{name}: its client is not installed here ({error}): pip install {name}")
        step = entries[-1]["step"]
        sent[name] = {"step": step, "lines_of_step": sum(entry["step"] == step for entry in entries), "run": known}
        record.with_suffix(".tmp").write_text(json.dumps(sent, indent=2) + "\n", "utf-8")
        record.with_suffix(".tmp").replace(record)
        print(f"{name}: sent {len(new)} entries, up to step {step}")


if __name__ == "__main__":
    main()
