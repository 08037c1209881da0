// The rules between settings.
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "loraine/core/error.h"
#include "loraine/train/config/config.h"
#include "loraine/train/memory.h"

namespace loraine {
namespace {

[[noreturn]] void broken_rule(const std::string& message, const std::string& hint = {}) { throw Error(ErrorKind::usage, message, hint); }

void check_model(const TrainConfig& c) {
  if (c.model_name_or_path.empty())
    broken_rule("model_name_or_path is not given", "give the folder of the base model: --model_name_or_path DIR");
  if (c.frozen_matmul != "exact" && c.quantization_bit.value_or(8) != 8)
    broken_rule(
        fmt::format("quantization_bit is {}, and frozen_matmul: {} multiplies weights of 8 bits", *c.quantization_bit, c.frozen_matmul),
        "set quantization_bit to 8, or leave one of them out");
}

// What needs the base's own values, or changes them.
void check_quantised_training(const TrainConfig& c) {
  const char* what = c.finetuning_type != "lora" ? "finetuning_type other than lora"
                     : c.pissa_init || c.init_lora_weights == "pissa" || c.init_lora_weights == "olora"
                         ? "a start from the base's singular vectors"
                     : c.create_new_adapter                          ? "create_new_adapter"
                     : split_list(c.adapter_name_or_path).size() > 1 ? "merging adapters into the base"
                                                                     : nullptr;
  if (what)
    broken_rule(fmt::format("quantization_bit is {}, and {} needs the base as it is", *c.quantization_bit, what), "leave one of them out");
}

void check_evaluation(const TrainConfig& c) {
  bool has_set = !split_list(c.eval_dataset).empty(), splits = c.val_size > 1e-6;
  if (has_set && splits)
    broken_rule("eval_dataset and val_size are both given; the evaluation rows come from one of them", "leave one of the two out");
  bool evaluates = c.do_eval || c.eval_strategy != "no" || c.eval_on_start;
  if (evaluates && !has_set && !splits)
    broken_rule("an evaluation is asked for (do_eval, eval_strategy or eval_on_start) and there are no rows for it",
                "set eval_dataset or val_size");
  if (c.early_stopping_steps && c.eval_strategy == "no")
    broken_rule("early_stopping_steps needs evaluations while training, eval_strategy is no", "set eval_strategy to steps or epoch");
  if (c.load_best_model_at_end && c.eval_strategy == "no")
    broken_rule("load_best_model_at_end needs evaluations while training, eval_strategy is no",
                "set eval_strategy to the value of save_strategy");
  if (c.load_best_model_at_end && c.save_strategy != "best") {
    if (c.save_strategy != c.eval_strategy)
      broken_rule(fmt::format("load_best_model_at_end needs a checkpoint per evaluation: save_strategy is {}, eval_strategy is {}",
                              c.save_strategy, c.eval_strategy),
                  "set both to the same value");
    double every = c.eval_steps.value_or(c.logging_steps);
    double times = every > 0 ? c.save_steps / every : 0;
    if (c.eval_strategy == "steps" && (every < 1) == (c.save_steps < 1) && std::abs(times - std::round(times)) > 1e-9)
      broken_rule(fmt::format("load_best_model_at_end: save_steps is {}, which is no multiple of eval_steps {}", c.save_steps, every),
                  "make save_steps a multiple of eval_steps");
  }
  if (c.lr_scheduler_type == "reduce_lr_on_plateau" && c.eval_strategy == "no")
    broken_rule("lr_scheduler_type is reduce_lr_on_plateau, which follows the evaluations while training, and eval_strategy is no",
                "set eval_strategy to steps or epoch");
  if (c.eval_strategy == "steps" && c.eval_steps.value_or(c.logging_steps) <= 0) broken_rule("eval_strategy is steps, and eval_steps is 0");
  if (c.save_strategy == "steps" && c.save_steps <= 0)
    broken_rule("save_strategy is steps, and save_steps is 0", "to save nothing set save_strategy to no");
}

void check_loftq(const TrainConfig& c) {
  if (c.init_lora_weights != "loftq") return;
  if (!c.quantization_bit) return;
  if (*c.quantization_bit != c.loftq_bits)
    broken_rule(fmt::format("quantization_bit is {} and loftq_bits {}, and the base is held in the codes that LoftQ makes",
                            *c.quantization_bit, c.loftq_bits),
                "set both to the same value");
  if (c.loftq_bits == 4 && c.quantization_type != "nf4")
    broken_rule(fmt::format("quantization_type is {}, and LoftQ's codes of 4 bits are nf4", c.quantization_type),
                "set quantization_type: nf4");
}

void check_method(const TrainConfig& c) {
  check_loftq(c);
  if (c.pissa_init && c.init_lora_weights != "true" && c.init_lora_weights != "pissa")
    broken_rule("pissa_init and init_lora_weights: " + c.init_lora_weights + " are two different starts", "leave one of the two out");
  if (c.pissa_convert.value_or(false) && !c.create_new_adapter && !split_list(c.adapter_name_or_path).empty())
    broken_rule("pissa_convert needs the start of the adapter, and adapter_name_or_path goes on from a later one",
                "leave pissa_convert out, or set create_new_adapter: true");
  if (c.pissa_convert.value_or(false) && !c.pissa_init) broken_rule("pissa_convert is given without pissa_init", "set pissa_init: true");
  if (!c.use_adalora) return;
  if (c.use_dora) broken_rule("use_adalora and use_dora exclude each other", "leave one of the two out");
  if (c.pissa_init || c.init_lora_weights != "true")
    broken_rule("use_adalora starts its matrices in its own way, pissa_init and init_lora_weights do not apply", "leave them out");
  if (c.rank_pattern || c.alpha_pattern || c.use_rslora)
    broken_rule("rank_pattern, alpha_pattern and use_rslora do not apply to use_adalora", "leave them out");
  if (c.target_r > c.init_r) broken_rule(fmt::format("target_r {} is above init_r {}, and ranks are only cut", c.target_r, c.init_r));
}

// What is read of the data, by `loraine data`, and not trained or evaluated on.
void check_built(const TrainConfig& c) {
  for (const auto& [key, given] : {std::pair{"streaming", c.streaming}, {"eval_on_each_dataset", c.eval_on_each_dataset}})
    if (given)
      throw Error(ErrorKind::unsupported,
                  fmt::format("{} is true; loraine knows this key of LLaMA-Factory and does not do it yet, but in `loraine data`", key),
                  "leave it out");
  if (c.stage == "rm" || c.stage == "dpo" || c.stage == "kto")
    throw Error(ErrorKind::unsupported,
                fmt::format("stage is {}; loraine knows this stage of LLaMA-Factory and does not do it yet", c.stage),
                "choose sft or pt; loraine data shows what its rows become");
}

// Of what is read while it is trained on, nobody knows the end.
void check_streaming(const TrainConfig& c) {
  if (!c.streaming) return;
  if (c.max_steps <= 0) broken_rule("streaming needs max_steps, and it is not given", "set max_steps: the number of updates");
  if (c.val_size > 1e-6 && c.val_size < 1)
    broken_rule(fmt::format("streaming: val_size {} is a share of rows that nobody has counted", c.val_size), "give a number of rows");
  if (c.max_samples) broken_rule("streaming and max_samples exclude each other", "leave one of the two out");
}

}  // namespace

void check_data_config(const TrainConfig& c) {
  check_model(c);
  if (split_list(c.dataset).empty() && split_list(c.eval_dataset).empty())
    broken_rule("dataset is not given, and there is nothing to show", "name sets of dataset_info.json, or paths: --dataset NAME,FILE");
  check_streaming(c);
  if (c.stage != "sft" && c.neat_packing)
    broken_rule(fmt::format("neat_packing goes with stage sft only, and it is {}", c.stage), "leave it out");
  if (c.mask_history && c.train_on_prompt) broken_rule("mask_history and train_on_prompt exclude each other", "leave one of the two out");
  if (!split_list(c.eval_dataset).empty() && c.val_size > 1e-6)
    broken_rule("eval_dataset and val_size are both given; the evaluation rows come from one of them", "leave one of the two out");
}

void check_train_config(const TrainConfig& c) {
  check_model(c);
  check_built(c);
  check_streaming(c);
  if (c.create_new_adapter && split_list(c.adapter_name_or_path).empty())
    broken_rule("create_new_adapter needs adapters to merge first, and adapter_name_or_path is not given", "give them, or leave it out");
  if (!c.do_train.value_or(true) && !split_list(c.dataset).empty())
    broken_rule("do_train is false, and dataset is given to train on",
                "set do_train: true; to evaluate alone, leave dataset out and name eval_dataset");
  if (split_list(c.dataset).empty() && (c.do_train.value_or(false) || !c.do_eval))
    broken_rule("dataset is not given, training needs one", "name sets of dataset_info.json: --dataset NAME,NAME");
  if (c.finetuning_type != "lora") {
    if (!split_list(c.adapter_name_or_path).empty())
      broken_rule(fmt::format("adapter_name_or_path goes with finetuning_type lora only, and it is {}", c.finetuning_type),
                  "merge the adapter with loraine export first, and train on the result");
    if (!split_list(c.additional_target).empty() || c.bias != "none" || c.use_rslora)
      broken_rule(fmt::format("additional_target, bias and use_rslora go with finetuning_type lora only, and it is {}", c.finetuning_type),
                  "leave them out");
    if (c.use_dora || c.use_adalora || c.pissa_init || c.init_lora_weights != "true" || c.loraplus_lr_ratio)
      broken_rule(
          fmt::format("use_dora, use_adalora, pissa_init, init_lora_weights and loraplus_lr_ratio go with finetuning_type lora only, "
                      "and it is {}",
                      c.finetuning_type),
          "leave them out");
  }
  if (c.quantization_bit) check_quantised_training(c);
  if (c.frozen_matmul != "exact" &&
      (c.finetuning_type != "lora" || c.use_dora || !split_list(c.additional_target).empty() || c.bias != "none"))
    broken_rule(
        fmt::format(
            "frozen_matmul: {} keeps the layers in int8 only, and finetuning_type other than lora, use_dora, additional_target and bias "
            "need them in full",
            c.frozen_matmul),
        "leave frozen_matmul out");
  if (c.neat_packing && c.stage != "sft")
    broken_rule(fmt::format("neat_packing goes with stage sft only, and it is {}", c.stage), "leave it out");
  if (c.stage == "pt" && (c.mask_history || c.train_on_prompt))
    broken_rule("mask_history and train_on_prompt go with stage sft only, and it is pt", "leave them out");
  if (c.mask_history && c.train_on_prompt) broken_rule("mask_history and train_on_prompt exclude each other", "leave one of the two out");
  if (split_list(c.lora_target).empty()) broken_rule("lora_target is empty", "name layers, or `all`");
  if (c.max_steps == 0) broken_rule("max_steps is 0, expected a number of updates, or -1 for num_train_epochs");
  if (c.max_steps < 0 && c.num_train_epochs <= 0) broken_rule("num_train_epochs is 0 and max_steps is not set: there is nothing to train");
  check_method(c);
  if (c.memory_limit) parse_memory_limit(*c.memory_limit);
  if (c.output_dir.empty()) broken_rule("output_dir is empty", "name a folder for the results");
  check_evaluation(c);
}

std::vector<std::string> config_notes(const TrainConfig& c) {
  std::vector<std::string> notes;
  if (c.warmup_ratio && c.warmup_steps > 0)
    notes.push_back(fmt::format("warmup_steps is {} and warmup_ratio {}; as in LLaMA-Factory the ratio counts; leave one of the two out",
                                c.warmup_steps, *c.warmup_ratio));
  for (const auto& [key, sets] : {std::pair{"dataset", c.dataset}, {"eval_dataset", c.eval_dataset}}) {
    std::set<std::string> seen, told;
    for (const std::string& name : split_list(sets))
      if (!seen.insert(name).second && told.insert(name).second)
        notes.push_back(fmt::format("{} names {} more than once; as in LLaMA-Factory it counts once", key, name));
  }
  return notes;
}

void check_chat_config(const TrainConfig& c) {
  check_model(c);
  check_built(c);
}

void check_export_config(const TrainConfig& c) {
  check_model(c);
  if (!c.export_dir || c.export_dir->empty())
    broken_rule("export_dir is not given", "name the folder for the merged model: --export_dir DIR");
  if (c.quantization_bit && !split_list(c.adapter_name_or_path).empty())
    broken_rule("quantization_bit and adapter_name_or_path are both given, and adapters are not merged into a quantised model",
                "merge them first, and quantise the result");
  if (c.quantization_bit && c.export_legacy_format)
    broken_rule("quantization_bit and export_legacy_format are both given, and quantised weights are written as safetensors only",
                "leave export_legacy_format out");
  if (split_list(c.adapter_name_or_path).empty()) check_loftq(c);
}

}  // namespace loraine
