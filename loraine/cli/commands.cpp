// The table of commands and the text that lists them. Used by main and help.
#include "loraine/cli/commands.h"

#include <fmt/format.h>

#include "loraine/core/describe.h"
#include "loraine/core/error.h"

namespace loraine {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"train", "fine-tune a model: LoRA, some layers, or all of it",
       "loraine train --model_name_or_path models/Qwen3-0.6B --dataset_dir data --dataset identity --output_dir out/identity", run_train},
      {"compare", "train with several settings and compare the results",
       "loraine compare --model_name_or_path models/Qwen3-0.6B --dataset_dir data --dataset identity --val_size 0.1 --lora_rank 4,16 "
       "--output_dir out/ranks",
       run_compare},
      {"chat", "talk to a model, with or without adapters",
       "loraine chat --model_name_or_path models/Qwen3-0.6B --adapter_name_or_path out/identity", run_chat},
      {"serve", "a model and its adapters over HTTP, for the clients of OpenAI's API",
       "loraine serve --model_name_or_path models/Qwen3-0.6B --adapter_name_or_path identity=out/identity", run_serve},
      {"api", "the same with LLaMA-Factory's habits: its variables, one model name, its defaults of sampling",
       "loraine api --model_name_or_path models/Qwen3-0.6B --adapter_name_or_path out/identity", run_api},
      {"eval", "loss, scores and examinations of a model, with and without adapters",
       "loraine eval --model_name_or_path models/Qwen3-0.6B --adapter_name_or_path out/identity --compare --dataset_dir data "
       "--eval_dataset "
       "identity --output_dir out/scores",
       run_eval},
      {"export", "merge adapters into their base model",
       "loraine export --model_name_or_path models/Qwen3-0.6B --adapter_name_or_path out/identity --export_dir out/merged", run_export},
      {"adapter", "saved adapters: list, info, check, merge, diff, resize, extract, convert",
       "loraine adapter merge out/en out/fr --weights 0.7,0.3 --output_dir out/both", run_adapter},
      {"convert", "write a GGUF file as a Hugging Face folder", "loraine convert model.gguf models/from-gguf", run_convert},
      {"upload", "a folder that train or export wrote, to a hub", "loraine upload out/identity --hub_model_id org/identity", run_upload},
      {"trace", "logits, loss and gradients of a batch, to check the numbers",
       "loraine trace --model_name_or_path models/Qwen3-0.6B --batch batch.safetensors --output logits.safetensors", run_trace},
      {"data", "what training would see of its data: tokens, lengths, what is cut, repeated or never trained",
       "loraine data --model_name_or_path models/Qwen3-0.6B --dataset pairs.jsonl", run_data},
      {"tokenize", "text or conversations to token ids, row by row",
       "loraine tokenize --model_name_or_path models/Qwen3-0.6B --input texts.jsonl --output ids.jsonl", run_tokenize},
      {"bench", "speed of training and decoding on this machine", "loraine bench --model_name_or_path models/Qwen3-0.6B --tokens 512",
       run_bench},
      {"env", "this program, its machine, libraries and caches, for a report", "loraine env [--json]", run_env},
      {"version", "the version of this program", "loraine version", run_version},
      {"help", "this text, or the options of one command: loraine help train", "loraine help train", run_help},
  };
  return table;
}

const std::vector<AbsentCommand>& absent_commands() {
  static const std::vector<AbsentCommand> table = {
      {"webchat", true, "in the terminal: loraine chat; for other programs: loraine serve"},
      {"webui", true, "the same settings as a YAML file: loraine train FILE.yaml, then loraine chat and loraine export"},
      {"webserver", false, "in the terminal: loraine chat"},
      {"finetune", false, "loraine train"},
      {"sft", false, "loraine train (stage sft is its default)"},
      {"pt", false, "loraine train --stage pt"},
      {"infer", false, "loraine chat; over a data set: loraine eval --predict_with_generate"},
      {"predict", false, "loraine eval --predict_with_generate"},
      {"generate", false, "loraine chat; over a data set: loraine eval --predict_with_generate"},
      {"evaluate", false, "loraine eval"},
      {"merge", false, "loraine export"},
      {"merge-lora", false, "loraine export"},
      {"merge_lora", false, "loraine export"},
      {"fuse", false, "loraine export"},
      {"quantize", false, "loraine export --quantization_bit 4"},
      {"benchmark", false, "loraine bench"},
  };
  return table;
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (name == command.name) return command;
    names.push_back(command.name);
  }
  for (const AbsentCommand& absent : absent_commands())
    if (name == absent.name)
      throw Error(ErrorKind::usage,
                  fmt::format("'{}' is a command of {}, and loraine does not have it", name,
                              absent.llamafactory ? "LLaMA-Factory" : "other programs"),
                  std::string("instead: ") + absent.instead);
  const bool file = name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
  const std::string near = nearest_word(name, names);
  throw Error(ErrorKind::usage, fmt::format("unknown command '{}'", name),
              file           ? "name the command first: loraine train " + name
              : near.empty() ? "`loraine help` lists the commands"
                             : "did you mean '" + near + "'? `loraine help` lists the commands");
}

std::string example_text(const std::string& command) { return fmt::format("example:\n  {}\n\n", find_command(command).example); }

std::string usage_text(const std::string& program) {
  std::string text = "usage: " + program + " COMMAND [FILE.yaml] [key=value ...] [--key value ...]\n\ncommands:\n";
  for (const Command& command : commands()) text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  return text;
}

}  // namespace loraine
