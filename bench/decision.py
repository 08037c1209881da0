#!/usr/bin/env python3
"""Stage decision beside PEFT's LoRA on a classification head (SEQ_CLS): accuracy and calibration on a made-up task over a small base, and the time of a whole
job at SmolLM2-135M's size. For docs/methods/decision.md.

usage: python3 bench/decision.py base DIR [--steps 1500]        a base trained on unlabelled text of the task, with its tokenizer (torch, transformers)
       python3 bench/decision.py data DIR                       DIR/train.jsonl (1,000 rows) and DIR/test.jsonl (1,000 rows)
       python3 bench/decision.py loraine DIR [--seeds 3] [key=value ...]
       python3 bench/decision.py peft DIR --seconds N [--seeds 3] [--rate 1e-3]      N seconds of training each
       python3 bench/decision.py time DIR TOKENIZER [key=value ...]                  weights of SmolLM2-135M's shape, a folder with its tokenizer

The task: messages of three to six clauses to one of four teams, most of them about what that team does, some about the others; one label in twelve is another
team's, so that no classifier is right beyond about 0.9 and a calibrated one knows it."""
import argparse
import json
import math
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))

TEAMS = {
    "billing": ["the invoice", "a charge", "my card", "the payment", "a receipt", "the tax", "the bank transfer", "a direct debit", "the balance", "a late fee"],
    "support": ["the app", "a login", "the password", "an error code", "the update", "a frozen screen", "the server", "a crash", "the settings page", "a bug"],
    "sales": ["a quote", "the price list", "a demo", "the licence count", "an upgrade", "a volume discount", "the contract", "a trial", "the sales pitch", "a new plan"],
    "returns": ["the parcel", "a damaged box", "the courier", "a missing item", "the return label", "an exchange", "the wrong size", "a torn package", "the pickup", "a spare part"],
}
BEFORE = ["There is something odd about", "I still wait for an answer on", "Nobody could help me with", "Yesterday I wrote about", "Please look into", "We have talked about",
          "Once more it is about", "My colleague asks about", "I am not happy with", "Can you tell me more about"]
AFTER = ["since Monday", "and it gets worse", "as I said", "for the third time", "from last week", "in the morning", "which surprised me", "again", "today", "before the holidays"]
QUESTION = "Which team should answer?"


def message(draw, team):
    clauses = draw.randrange(3, 7)
    own = clauses // 2 + 1
    teams = [team] * own + [draw.choice([other for other in TEAMS if other != team]) for _ in range(clauses - own)]
    draw.shuffle(teams)
    return " ".join(f"{draw.choice(BEFORE)} {draw.choice(TEAMS[one])} {draw.choice(AFTER)}." for one in teams)


def rows(count, seed):
    draw, names = random.Random(seed), list(TEAMS)
    made = []
    for _ in range(count):
        team = draw.choice(names)
        label = team if draw.random() >= 1 / 12 else draw.choice([other for other in names if other != team])
        made.append(dict(text=message(draw, team), question=QUESTION, choices=names, label=label))
    return made


def write_data(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("train", 1), ("test", 2)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(1000, seed)))


def write_base(folder, steps):
    """A Llama of 3 million parameters that has read 24 thousand such messages, each with the word for what it is about, and never a choice."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(1)
    draw = random.Random(3)
    texts = []
    for _ in range(24000):
        team = draw.choice(list(TEAMS))
        thing = draw.choice(TEAMS[team])
        texts.append(draw.choice([f"{message(draw, team)} This is for {team}.", f"{thing} belongs to {team}.", message(draw, team), f"Who knows about {thing}? That is {team}."]))
    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(texts + [QUESTION, "Answer with one label only: A, B, C, D."] * 50, tokenizers.trainers.BpeTrainer(
        vocab_size=1024, special_tokens=["<pad>", "<s>", "<|im_start|>", "<|im_end|>"], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>")
    tokenizer.chat_template = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                               "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    tokenizer.save_pretrained(base)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=1024, hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=1024,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=3, pad_token_id=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 100) * max(0.05, 1 - step / steps))
    for step in range(steps):
        ids = tokenizer(draw.sample(texts, 16), return_tensors="pt", padding=True, truncation=True, max_length=128)
        labels = ids.input_ids.masked_fill(ids.attention_mask == 0, -100)
        loss = model(**ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(base)


def run(*words):
    begin = time.monotonic()
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - begin


def job(model, folder, out, train, test, settings):
    """Seconds of the training command and of the evaluation, and its results."""
    shutil.rmtree(out, ignore_errors=True)
    words = dict(stage="decision", do_train="true", model_name_or_path=model, dataset=folder / train, output_dir=out, lora_rank=8, lora_target="all", learning_rate="1e-3",
                 lr_scheduler_type="cosine", warmup_ratio=0.1, per_device_train_batch_size=8, num_train_epochs=3, save_strategy="no", logging_steps=10) | settings
    trained = run("train", *(word for key, value in words.items() for word in (f"--{key}", value)))
    asked = run("eval", "--task", "decision", "--model_name_or_path", model, "--adapter_name_or_path", out, "--eval_dataset", folder / test, "--output_dir", f"{out}_eval",
                *(word for key in ("bf16", "frozen_matmul") if key in settings for word in (f"--{key}", settings[key])))
    return trained, asked, json.loads(pathlib.Path(f"{out}_eval/eval_results.json").read_text())


def measure_loraine(options, settings):
    print("| seed | training, s | evaluation, s | accuracy | calibration error | before | temperature | nll | answers/s |\n|---|---|---|---|---|---|---|---|---|")
    for seed in range(1, options.seeds + 1):
        trained, asked, r = job(options.folder / "base", options.folder, options.folder / f"out{seed}", "train.jsonl", "test.jsonl", dict(seed=seed) | settings)
        print(f"| {seed} | {trained:.1f} | {asked:.1f} | {r['eval_accuracy']:.3f} | {r['eval_calibration_error']:.3f} | {r['eval_calibration_error_before']:.3f} | {r['eval_temperature']:.3f} | "
              f"{r['eval_nll']:.4f} | {r['eval_answers_per_second']:.0f} |", flush=True)


def measure_peft(options):
    import peft
    import torch
    import transformers

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    names = list(TEAMS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.folder / "base")
    data = {part: [json.loads(line) for line in (options.folder / f"{part}.jsonl").read_text().splitlines()] for part in ("train", "test")}

    def batch(some):
        return tokenizer([row["text"] for row in some], return_tensors="pt", padding=True), torch.tensor([names.index(row["label"]) for row in some])

    def test(model):
        model.eval()
        shares, labels = [], []
        with torch.no_grad():
            for first in range(0, len(data["test"]), 50):
                ids, wanted = batch(data["test"][first : first + 50])
                shares.append(model(**ids).logits.float().softmax(-1))
                labels.append(wanted)
        model.train()
        shares, labels = torch.cat(shares), torch.cat(labels)
        top, found = shares.max(-1)
        right = (found == labels).float()
        bins = (top * 15).ceil().long().clamp(1, 15) - 1
        error = sum(abs((top[bins == b] - right[bins == b]).sum()) for b in range(15)).item() / len(labels)
        return right.mean().item(), error, torch.nn.functional.nll_loss(shares.log(), labels).item()

    print("| seed | training, s | epochs | accuracy | best of all epochs | calibration error | nll |\n|---|---|---|---|---|---|---|")
    for seed in range(1, options.seeds + 1):
        torch.manual_seed(seed)
        draw = random.Random(seed)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(options.folder / "base", num_labels=len(names), dtype=torch.float32)
        base.config.pad_token_id = tokenizer.pad_token_id
        model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules="all-linear"))
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0)
        spent, epochs, best = 0.0, 0, 0.0
        while spent < options.seconds:
            order = draw.sample(data["train"], len(data["train"]))
            begin, before = time.monotonic(), spent
            for first in range(0, len(order), 8):
                now = before + time.monotonic() - begin
                if now >= options.seconds:
                    break
                for group in optimizer.param_groups:  # warm-up and cosine over the seconds that it has
                    share = now / options.seconds
                    group["lr"] = options.rate * (share / 0.1 if share < 0.1 else 0.5 * (1 + math.cos(math.pi * (share - 0.1) / 0.9)))
                ids, wanted = batch(order[first : first + 8])
                torch.nn.functional.cross_entropy(model(**ids).logits.float(), wanted).backward()
                torch.nn.utils.clip_grad_norm_(trained, 1)
                optimizer.step()
                optimizer.zero_grad()
            spent = before + time.monotonic() - begin
            epochs += 1
            accuracy, error, nll = test(model)
            best = max(best, accuracy)
        print(f"| {seed} | {spent:.1f} | {epochs} | {accuracy:.3f} | {best:.3f} | {error:.3f} | {nll:.4f} |", flush=True)


def measure_time(options, settings):
    sys.path.insert(0, str(root / "bench"))
    import scaling

    model = options.folder / "135M"
    if not model.exists():
        scaling.write_model(model, scaling.SHAPES["135M"])
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
            if (options.tokenizer / name).exists():
                shutil.copy(options.tokenizer / name, model / name)
    write_data(options.folder)
    begin = time.monotonic()
    trained, asked, r = job(model, options.folder, options.folder / "out135M", "train.jsonl", "test.jsonl", settings)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"training {trained:.1f} s, evaluation of {r['eval_samples']} rows {asked:.1f} s, together {time.monotonic() - begin:.1f} s; {r['eval_answers_per_second']:.1f} answers/s; "
          f"peak {peak} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["base", "data", "loraine", "peft", "time"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("tokenizer", nargs="?", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float, default=1e-3)
    options, words = parser.parse_known_args()
    if options.tokenizer and "=" in str(options.tokenizer):
        words.insert(0, str(options.tokenizer))
    settings = dict(word.split("=", 1) for word in words)
    if options.part == "base":
        write_base(options.folder, options.steps)
    elif options.part == "data":
        write_data(options.folder)
    elif options.part == "loraine":
        measure_loraine(options, settings)
    elif options.part == "peft":
        measure_peft(options)
    else:
        measure_time(options, settings)


main()
