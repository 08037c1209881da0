// The text of docs/cli.md, made from the descriptions of the options. Printed by `loraine help --markdown`, compared by a test.
#include <fmt/format.h>

#include <map>

#include "loraine/cli/adapter/adapter.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/reference/reference.h"
#include "loraine/eval/evaluate.h"
#include "loraine/serve/settings.h"
#include "loraine/train/config/config.h"
#include "loraine/train/config/other_words.h"

namespace loraine {
namespace {

// Tables of the words of other programs.
std::string other_words_text() {
  std::string text =
      "\n## Words of other programs\n\n"
      "Keys of PEFT, TRL, Unsloth, axolotl, mlx-lm, torchtune, ms-swift and the like. Each one that is used is told in a line, \"`lr` is "
      "taken\n"
      "as `learning_rate`\". A key given in two words with two values, at one place (a file, `key=value` words, flags), is an error. The "
      "words\n"
      "for a batch size are those of a micro-batch, and an error beside a gradient_accumulation_steps other than 1, since some programs "
      "mean the\n"
      "batch of an update.\n\n"
      "| key | words |\n|---|---|\n";
  std::vector<std::string> keys;
  std::map<std::string, std::string> words;
  for (const OtherWord& one : other_words()) {
    if (one.keys.size() != 1) continue;
    std::string& list = words[one.keys.front()];
    if (list.empty()) keys.push_back(one.keys.front());
    list += (list.empty() ? "`" : ", `") + one.word + "`";
  }
  for (const std::string& key : keys) text += fmt::format("| `{}` | {} |\n", key, words[key]);
  text += "\n| setting | is taken as |\n|---|---|\n";
  const auto side = [&](const OtherSwitch& one, bool yes) {
    const OtherSwitch::Side& as = yes ? one.yes : one.no;
    if (!as.key.empty()) text += fmt::format("| `{}: {}` | `{}: {}` |\n", one.word, yes, as.key, as.value);
  };
  for (const OtherSwitch& one : other_switches()) {
    side(one, true);
    side(one, false);
  }
  for (const OtherKind& one : other_kinds())
    text += fmt::format("| `finetuning_type: {}` | `finetuning_type: lora`, and `{}: {}` unless {} is given |\n", one.kind, one.key,
                        one.value, one.key);
  text += "\n| refused as unclear | what to write |\n|---|---|\n";
  for (const OtherWord& one : other_words())
    if (one.keys.size() != 1) text += fmt::format("| `{}` | {} |\n", one.word, one.hint);
  text += "\n## Commands of other programs\n\n| command | instead |\n|---|---|\n";
  for (const AbsentCommand& one : absent_commands()) text += fmt::format("| `{}` | {} |\n", one.name, one.instead);
  return text;
}

}  // namespace

std::string cli_reference() {
  std::string text =
      "# The command line\n\n"
      "This page is printed by `loraine help --markdown`; a test compares the two.\n\n"
      "```\nloraine COMMAND [FILE.yaml] [key=value ...] [--key value ...]\n```\n\n"
      "Settings come from the file, then from `key=value` words (read as YAML, dots reach into maps), then from flags; later ones win. A "
      "flag\n"
      "without a value is true, `--no_KEY` is false. Keys and defaults are LLaMA-Factory's. Keys of LLaMA-Factory that have no effect "
      "here\n"
      "are accepted, with one note for all; one that would change the result and is not built is refused. Words of other programs are "
      "taken\n"
      "under LLaMA-Factory's keys ([below](#words-of-other-programs)); any other key is an error that names the nearest known one. Keys "
      "of\n"
      "other commands, which a shared file may hold, are named in a note.\n\n## Commands\n\n| command | what it does |\n|---|---|\n";
  for (const Command& command : commands()) text += fmt::format("| `{}` | {} |\n", command.name, command.summary);
  text += "\n## Exit codes\n\n| code | meaning |\n|---|---|\n";
  for (const auto& [code, meaning] : kExitCodes) text += fmt::format("| {} | {} |\n", code, meaning);
  text +=
      "\n## Files of a run\n\n"
      "`output_dir` holds what LLaMA-Factory writes: `adapter_config.json`, `adapter_model.safetensors`, `README.md`, the tokenizer's "
      "files,\n"
      "`trainer_log.jsonl`, `trainer_state.json`, `train_results.json`, `eval_results.json`, `all_results.json` and, with `plot_loss`, "
      "the\n"
      "curves as PNG and SVG. Own to loraine are `num_truncated`, `num_dropped` and `num_untrained` (rows without a trained token) in\n"
      "`all_results.json`, the lock `.loraine.lock`, `loraine_run.json` (the settings and a fingerprint of the "
      "base, in checkpoints too), and in a checkpoint `optimizer.safetensors` and `training_state.json` (in the place "
      "of torch's pickles) and `loraine_checkpoint.json`, "
      "the\n"
      "list of its files with sizes and checksums. AdaLoRA adds `ranks.json`, in a checkpoint `adalora_state.safetensors` and "
      "`adalora_state.json`,\n"
      "and with `plot_loss` `training_ranks.png` and `.svg`; PiSSA adds the folders `pissa_init`, `pissa_backup` and "
      "`pissa_converted`.\n\n"
      "Stage grpo writes `completions.jsonl` with `log_completions` (a line for each answer: `step`, `prompt`, `completion`, `rewards` by\n"
      "check, `advantage`), and in a checkpoint that lies in the midst of a generation `rollouts.json` (`epoch`, `number`, and of each of\n"
      "its `answers` `ids`, `labels`, `advantage`, `generation_tokens`, `old_logps`, `reference_logps`): without it such a checkpoint "
      "cannot\nbe gone on from.\n\n"
      "`loraine eval` writes `eval_results.json` (figures, and `intervals` with the 95 % interval of each), "
      "`generated_predictions.jsonl`,\n"
      "`match_predictions.jsonl`, and `results.json` with `results.log` of an examination; with `compare` also `eval_comparison.json`,\n"
      "`eval_comparison.md` and each model's files with its name before theirs. Nothing in them depends on time: a second run writes the\n"
      "same bytes. What the figures are: [eval.md](eval.md).\n\n"
      "## What export checks\n\n"
      "Every tensor is read back. What is only copied, and the codes and scales of `quantization_bit`, has to have the same bytes. What "
      "is\n"
      "computed is held against W + ΔW in double, value by value: no further from it than one rounding to the type that is written and "
      "the\n"
      "error of sums in f32. A model that fails is removed, with exit 1 (a wrong sum), 5 (a value that the type cannot hold, or NaN) or 6 "
      "(other\n"
      "bytes than were written).\n\n"
      "Then logits on a few lines of text (made-up tokens without a tokenizer) say what the rounding does to answers: the mean of\n"
      "KL(base + adapter ‖ merged) in nats per token and the share of tokens whose most likely successor is the same, and beside them the "
      "same\n"
      "two of the rounding alone (merged in f32 against what was written in a narrower type). They are figures, not a judgement: a model "
      "may be so sensitive "
      "that\n"
      "any rounding changes its answers. `infer_dtype: float32` writes without loss.\n\n"
      "## Words in a chat\n\n"
      "`exit` ends, `clear` forgets the conversation, `/adapter NAME` switches (without a name: lists), `/base` switches adapters off,\n"
      "`/system TEXT` sets the system text, `/save FILE` writes the conversation as JSON, `/help` lists them. Ctrl-C stops an answer.\n"
      "Adapters given as paths are on together (as if merged in turn); those given as `name=path` wait to be chosen, the first is on.\n\n"
      "## Settings\n";
  TrainConfig config;
  EvalConfig eval;
  ServeConfig server;
  return text + options_markdown(options_of(config)) + options_markdown(options_of(eval)) + options_markdown(options_of(server)) +
         adapter_reference() + other_words_text();
}

}  // namespace loraine
