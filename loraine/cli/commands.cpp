// The table of commands and the text that lists them. Used by main and help.
#include "loraine/cli/commands.h"

#include <fmt/format.h>

namespace loraine {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"train", "fine-tune a model: LoRA, some layers, or all of it", run_train},
      {"compare", "train with several settings and compare the results", run_compare},
      {"chat", "talk to a model, with or without adapters", run_chat},
      {"eval", "loss, scores and examinations of a model, with and without adapters", run_eval},
      {"export", "merge adapters into their base model", run_export},
      {"convert", "write a GGUF file as a Hugging Face folder", run_convert},
      {"trace", "logits, loss and gradients of a batch, to check the numbers", run_trace},
      {"tokenize", "text or conversations to token ids, row by row", run_tokenize},
      {"bench", "speed of training and decoding on this machine", run_bench},
      {"version", "the version of this program", run_version},
      {"help", "this text, or the options of one command: loraine help train", run_help},
  };
  return table;
}

std::string usage_text() {
  std::string text = "usage: loraine COMMAND [FILE.yaml] [key=value ...] [--key value ...]\n\ncommands:\n";
  for (const Command& command : commands()) text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  return text;
}

}  // namespace loraine
