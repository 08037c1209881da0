// Settings to what data/ takes.
#include "loraine/train/config/data_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "loraine/core/error.h"
#include "loraine/data/examples/prepared.h"
#include "loraine/io/hub/hub.h"
#include "loraine/train/config/decisions.h"
#include "loraine/train/config/hub_access.h"

namespace loraine {
namespace {

// A set that is named twice counts once, where it stands first.
std::vector<std::string> set_names(const std::optional<std::string>& list) {
  std::vector<std::string> names;
  for (const std::string& name : split_list(list))
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  return names;
}

Mixing mixing_of(const std::string& word) {
  if (word == "interleave_under") return Mixing::interleave_under;
  if (word == "interleave_over") return Mixing::interleave_over;
  return word == "interleave_once" ? Mixing::interleave_once : Mixing::concat;
}

std::vector<double> probabilities(const std::optional<std::string>& list) {
  std::vector<double> numbers;
  for (const std::string& word : split_list(list)) {
    char* end = nullptr;
    numbers.push_back(std::strtod(word.c_str(), &end));
    if (*end || !(numbers.back() > 0))
      throw Error(ErrorKind::usage, "interleave_probs: '" + word + "' is not a positive number",
                  "give one for each set, together 1: 0.7,0.3");
  }
  return numbers;
}

void refuse_remote(const std::string& text) {
  if (!text.starts_with("REMOTE:")) return;
  throw Error(
      ErrorKind::unsupported, fmt::format("{}: a dataset_info.json that lies in a repository is not read from there", text),
      fmt::format("fetch it, and set dataset_dir to its folder: hf download --repo-type dataset {} --local-dir DIR", text.substr(7)));
}

}  // namespace

DataOptions data_options(const TrainConfig& c) {
  for (const std::string& text : {c.dataset_dir, c.dataset.value_or(""), c.eval_dataset.value_or("")}) refuse_remote(text);
  DataOptions d;
  d.datasets = set_names(c.dataset);
  d.eval_datasets = set_names(c.eval_dataset);
  d.dataset_dir = c.dataset_dir;
  d.find_repository = [access = data_hub_access(c)](const HubIds& ids) mutable {
    const bool any = ids.hugging_face == ids.modelscope;
    if (!any)
      access.hub =
          ids.hugging_face.empty() || (preferred_hub() == Hub::modelscope && !ids.modelscope.empty()) ? Hub::modelscope : Hub::hugging_face;
    const auto found =
        find_repository(any || access.hub == Hub::hugging_face ? ids.hugging_face : ids.modelscope, access, HubKind::dataset);
    return found ? found->path : std::string();
  };
  d.tokenized_path = c.tokenized_path;
  if (c.dry_run && d.tokenized_path && !is_prepared(*d.tokenized_path)) d.tokenized_path.reset();  // nothing is kept of it
  d.template_name = c.template_name;
  d.cutoff_len = c.stage == "grpo" ? c.grpo.max_prompt_length.value_or(INT32_MAX) : c.cutoff_len;
  d.max_samples = c.max_samples;
  d.val_size = holds_out(c) ? c.decision_holdout : c.val_size;
  d.streaming = c.streaming;
  d.buffer_size = c.buffer_size;
  d.shards = std::max<int64_t>(c.dataloader_num_workers, 1);
  d.mixing = mixing_of(c.mix_strategy);
  d.interleave_probs = probabilities(c.interleave_probs);
  d.eval_on_each_dataset = c.eval_on_each_dataset;
  d.train_on_prompt = c.train_on_prompt;
  d.mask_history = c.mask_history;
  d.default_system = c.default_system;
  d.enable_thinking = c.enable_thinking;
  d.preserve_thinking = c.preserve_thinking;
  d.tool_format = c.tool_format;
  d.split_special_tokens = c.split_special_tokens;
  d.stage = c.stage == "pt"                       ? DataStage::pretraining
            : c.stage == "rm" || c.stage == "dpo" ? DataStage::pairs
            : c.stage == "kto"                    ? DataStage::feedback
            : c.stage == "decision"               ? DataStage::decisions
            : c.stage == "grpo"                   ? DataStage::prompts
                                                  : DataStage::sft;
  d.packing = c.packing;
  d.neat_packing = c.neat_packing;
  d.preprocessing_num_workers = c.preprocessing_num_workers.value_or(1);
  d.preprocessing_batch_size = c.preprocessing_batch_size;
  d.seed = static_cast<uint64_t>(c.seed);
  d.skip_bad_rows = c.skip_bad_rows;
  d.spill_folder = c.output_dir;
  return d;
}

}  // namespace loraine
