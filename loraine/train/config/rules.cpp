// The rules between settings.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/gguf/gguf_mixture.h"
#include "loraine/io/hub/hub.h"
#include "loraine/train/config/config.h"
#include "loraine/train/config/decisions.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/config/preferences.h"
#include "loraine/train/config/report_to.h"
#include "loraine/train/gpu/device.h"
#include "loraine/train/memory.h"
#include "loraine/train/objectives/objective.h"
#include "loraine/train/optimizers/recipe.h"

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
  if (c.hqq_group_size % 8 != 0) broken_rule(fmt::format("hqq_group_size is {}, expected a multiple of 8", c.hqq_group_size));
  const bool hqq = c.quantization_method == "hqq";
  if (hqq && c.quantization_bit && c.frozen_matmul != "exact")
    broken_rule(fmt::format("quantization_method is hqq, and frozen_matmul: {} multiplies codes of its own", c.frozen_matmul),
                "leave one of them out");
  if (!hqq && c.quantization_bit && *c.quantization_bit != 4 && *c.quantization_bit != 8)
    broken_rule(fmt::format("quantization_bit is {}, expected was 4 or 8, which are what quantization_method {} has", *c.quantization_bit,
                            c.quantization_method),
                "set quantization_method: hqq, or 4 or 8 bits");
}

void check_gpu(const TrainConfig& c, const std::string& lacks) {
  if (c.device == "cuda" && !lacks.empty())
    throw Error(ErrorKind::unsupported, fmt::format("device: cuda: {} has no GPU code", lacks),
                "Run it on the CPU (device: cpu); docs/cuda.md says what the GPU has kernels for.");
}

// Of commands that compute on the CPU alone.
void check_on_the_cpu(const TrainConfig& c) {
  if (c.device == "cuda") throw Error(ErrorKind::unsupported, "device: cuda: this command has no GPU code", "Leave it out.");
}

// What needs the base's own values, or changes them.
void check_quantised_training(const TrainConfig& c) {
  const char* what = !trains_adapter(c) ? "a finetuning_type that trains weights of the base"
                     : c.pissa_init || c.init_lora_weights == "pissa" || c.init_lora_weights == "olora"
                         ? "a start from the base's singular vectors"
                     : c.init_lora_weights == "corda" || c.init_lora_weights == "lora_ga" ? "a start that changes the base (corda, lora_ga)"
                     : c.create_new_adapter                                               ? "create_new_adapter"
                     : split_list(c.adapter_name_or_path).size() > 1                      ? "merging adapters into the base"
                                                                                          : nullptr;
  if (what)
    broken_rule(fmt::format("quantization_bit is {}, and {} needs the base as it is", *c.quantization_bit, what), "leave one of them out");
}

// Codes are made of base + B A, in a loss of tokens: comparing with the base would compare with codes without an adapter.
void check_quant_aware(const TrainConfig& c) {
  if (!c.quant_aware) return;
  bool codes = false;
  try {
    codes = gguf_recipe(*c.quant_aware).quantised();
  } catch (const Error& error) { broken_rule(fmt::format("quant_aware: {}", error.what())); }
  if (!codes)
    broken_rule(fmt::format("quant_aware is {}, which has no codes", *c.quant_aware),
                "name the gguf_type that is exported: q4_k_m, q8_0, …");
  const char* what = c.stage != "sft" && c.stage != "pt"                            ? "a stage other than sft and pt"
                     : c.finetuning_type != "lora"                                  ? "finetuning_type other than lora"
                     : c.use_dora                                                   ? "use_dora"
                     : c.use_adalora                                                ? "use_adalora"
                     : c.quantization_bit                                           ? "quantization_bit"
                     : c.frozen_matmul != "exact"                                   ? "frozen_matmul"
                     : c.device == "cuda"                                           ? "device: cuda"
                     : c.bf16_full_eval && !c.bf16                                  ? "bf16_full_eval"
                     : c.bias != "none" || !split_list(c.additional_target).empty() ? "whole tensors (bias, additional_target)"
                     : c.lora_bias || c.trainable_token_indices || c.alora_invocation_tokens
                         ? "lora_bias, trainable_token_indices and alora_invocation_tokens"
                     : c.pissa_init || c.init_lora_weights == "pissa" || c.init_lora_weights == "olora" || c.init_lora_weights == "loftq" ||
                             c.init_lora_weights == "corda" || c.init_lora_weights == "lora_ga"
                         ? "a start that changes the base"
                     : split_list(c.adapter_name_or_path).size() > 1 || c.create_new_adapter ? "merging adapters into the base"
                                                                                             : nullptr;
  if (what) broken_rule(fmt::format("quant_aware does not go with {}", what), "leave one of them out");
}

void check_evaluation(const TrainConfig& c) {
  bool has_set = !split_list(c.eval_dataset).empty(), splits = c.val_size > 1e-6;
  if (has_set && splits)
    broken_rule("eval_dataset and val_size are both given; the evaluation rows come from one of them", "leave one of the two out");
  bool evaluates = c.do_eval || c.eval_strategy != "no" || c.eval_on_start;
  if (evaluates && !has_set && !splits && !holds_out(c))
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

// The loss of a token is one of several.
void check_loss(const TrainConfig& c) {
  std::vector<std::string> given;
  if (c.use_dft_loss) given.push_back("use_dft_loss");
  if (c.use_asft_loss) given.push_back("use_asft_loss");
  if (c.use_eaft_loss) given.push_back("use_eaft_loss");
  if (c.label_smoothing_factor > 0) given.push_back("label_smoothing_factor");
  if (given.size() > 1) broken_rule(fmt::format("{} and {} are two losses", given[0], given[1]), "leave one of them out");
  if (c.stage != "sft" && !given.empty() && given[0] != "label_smoothing_factor")
    broken_rule(fmt::format("{} goes with stage sft only, and it is {}", given[0], c.stage), "leave it out");
  const std::string start = c.pissa_init ? "pissa" : c.init_lora_weights;
  const bool moved = start == "pissa" || start == "olora" || start == "loftq" || start == "corda" || start == "lora_ga";
  if (c.use_asft_loss && moved)
    broken_rule(fmt::format("use_asft_loss compares with the base, and the start {} of the adapter is taken out of it", start),
                "leave one of them out");
}

void check_types(const TrainConfig& c) {
  if (c.fp16 && c.bf16) broken_rule("fp16 and bf16 are both true", "leave one of the two out");
  if (c.bf16_full_eval && c.fp16_full_eval) broken_rule("bf16_full_eval and fp16_full_eval are both true", "leave one of the two out");
  if (c.bf16_full_eval && compares_with_reference(c) && !c.bf16)
    broken_rule(
        "bf16_full_eval and a loss that compares with a reference do not go together without bf16: the reference is computed as "
        "training is",
        "set bf16: true, or leave bf16_full_eval out");
}

void check_new_tokens(const TrainConfig& c) {
  if (c.add_special_tokens && c.new_special_tokens_config)
    broken_rule("add_special_tokens and new_special_tokens_config both name new special tokens", "leave one of the two out");
  if (c.init_special_tokens != "noise_init" && !c.new_special_tokens_config)
    broken_rule("init_special_tokens is " + c.init_special_tokens + ", which needs the descriptions of new_special_tokens_config",
                "give them, or leave it out");
  const bool grows = c.resize_vocab || c.add_tokens || c.add_special_tokens || c.new_special_tokens_config;
  if (grows && c.quantization_bit)
    broken_rule(fmt::format("quantization_bit is {}, and new rows of the embedding are trained in full beside it", *c.quantization_bit),
                "leave one of the two out");
}

void check_fresh_start(const TrainConfig& c) {
  if (!c.train_from_scratch) return;
  if (c.finetuning_type != "full")
    broken_rule(fmt::format("train_from_scratch goes with finetuning_type full only, and it is {}: what does not train would stay random",
                            c.finetuning_type),
                "set finetuning_type: full");
}

// LLaMA Pro's layers are counted by freeze_trainable_layers, also with LoRA.
void check_llama_pro(const TrainConfig& c) {
  if (!c.use_llama_pro) return;
  if (c.finetuning_type == "full") broken_rule("use_llama_pro goes with finetuning_type freeze or lora, and it is full", "leave it out");
  if (c.freeze_trainable_layers < 1)
    broken_rule(
        fmt::format("use_llama_pro counts the layers that were put in by freeze_trainable_layers, which is {}", c.freeze_trainable_layers),
        "set freeze_trainable_layers to their number");
  if (c.layers_to_transform) broken_rule("use_llama_pro and layers_to_transform both choose layers", "leave one of the two out");
}

void check_batching(const TrainConfig& c) {
  if (c.batching_strategy == "normal") return;
  const auto excludes = [&](bool given, const std::string& other) {
    if (given)
      broken_rule(fmt::format("batching_strategy: {} and {} exclude each other", c.batching_strategy, other), "leave one of the two out");
  };
  if (c.stage != "sft" && c.stage != "pt")
    broken_rule(fmt::format("batching_strategy: {} goes with stages sft and pt, and it is {}", c.batching_strategy, c.stage),
                "leave it out");
  excludes(c.streaming, "streaming");
  excludes(c.auto_find_batch_size, "auto_find_batch_size");
  excludes(c.ignore_data_skip, "ignore_data_skip");
  excludes(c.dataloader_drop_last, "dataloader_drop_last");
}

void check_sampling(const TrainConfig& c) {
  const bool grouped = c.group_by_length || c.train_sampling_strategy == "group_by_length";
  if (c.disable_shuffling && grouped)
    broken_rule("disable_shuffling and group_by_length are two orders of the examples", "leave one of them out");
  if (c.group_by_length && c.train_sampling_strategy == "sequential")
    broken_rule("group_by_length is true and train_sampling_strategy sequential, which are two orders of the examples",
                "leave one of them out");
}

void check_loftq(const TrainConfig& c) {
  if (c.init_lora_weights != "loftq") return;
  if (!c.quantization_bit) return;
  if (c.quantization_method == "hqq")
    broken_rule("quantization_method is hqq, and the codes that LoftQ makes are bitsandbytes'", "leave quantization_method out");
  if (*c.quantization_bit != c.loftq_bits)
    broken_rule(fmt::format("quantization_bit is {} and loftq_bits {}, and the base is held in the codes that LoftQ makes",
                            *c.quantization_bit, c.loftq_bits),
                "set both to the same value");
  if (c.loftq_bits == 4 && c.quantization_type != "nf4")
    broken_rule(fmt::format("quantization_type is {}, and LoftQ's codes of 4 bits are nf4", c.quantization_type),
                "set quantization_type: nf4");
}

// EVA, CorDA and LoRA-GA.
void check_data_start(const TrainConfig& c) {
  const std::string& start = c.init_lora_weights;
  if (start != "eva" && start != "corda" && start != "lora_ga") return;
  const auto excludes = [&](bool given, const std::string& other, const char* hint) {
    if (given) broken_rule(fmt::format("init_lora_weights: {} and {} exclude each other", start, other), hint);
  };
  if (c.stage != "sft" && c.stage != "pt")
    throw Error(ErrorKind::unsupported, fmt::format("init_lora_weights: {} is built for stages sft and pt, and it is {}", start, c.stage),
                "use another start");
  excludes(c.streaming, "streaming", "a start out of the data reads them before the run: leave streaming out");
  excludes(c.use_dora, "use_dora", "leave one of the two out");
  for (const std::string& name : split_list(c.lora_target))
    if (name == "embed_tokens" || name == "lm_head" || name.starts_with("experts"))
      throw Error(ErrorKind::unsupported, fmt::format("init_lora_weights: {} is built for layers, and lora_target names {}", start, name),
                  "leave it out of lora_target");
  excludes(start != "eva" && c.alora_invocation_tokens.has_value(), "alora_invocation_tokens",
           "before its invocation the base has to be as it was: leave one of the two out");
  excludes(start != "eva" && c.use_rslora && (c.rank_pattern || c.alpha_pattern), "use_rslora with rank_pattern or alpha_pattern",
           "such an adapter cannot be written for the base as it was: leave one of them out");
}

void check_method(const TrainConfig& c) {
  check_loftq(c);
  check_data_start(c);
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

// What training does of the data, and an evaluation by itself does not.
void check_only_trained(const TrainConfig& c) {
  for (const auto& [key, given] : {std::pair{"streaming", c.streaming}, {"eval_on_each_dataset", c.eval_on_each_dataset}})
    if (given)
      throw Error(ErrorKind::unsupported, fmt::format("{} is true, which goes for training and `loraine data`", key), "leave it out");
}

// Of what is read while it is trained on, nobody knows the end.
void check_streaming(const TrainConfig& c) {
  if (!c.streaming) return;
  if (c.max_steps <= 0) broken_rule("streaming needs max_steps, and it is not given", "set max_steps: the number of updates");
  if (c.val_size > 1e-6 && c.val_size < 1)
    broken_rule(fmt::format("streaming: val_size {} is a share of rows that nobody has counted", c.val_size), "give a number of rows");
  if (c.group_by_length || c.train_sampling_strategy == "group_by_length")
    broken_rule("streaming and group_by_length exclude each other: the order is that of the stream", "leave one of the two out");
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
  check_streaming(c);
  if (c.create_new_adapter && split_list(c.adapter_name_or_path).empty())
    broken_rule("create_new_adapter needs adapters to merge first, and adapter_name_or_path is not given", "give them, or leave it out");
  if (!c.do_train.value_or(true) && !split_list(c.dataset).empty())
    broken_rule("do_train is false, and dataset is given to train on",
                "set do_train: true; to evaluate alone, leave dataset out and name eval_dataset");
  if (split_list(c.dataset).empty() && (c.do_train.value_or(false) || !c.do_eval))
    broken_rule("dataset is not given, training needs one", "name sets of dataset_info.json: --dataset NAME,NAME");
  if (!trains_adapter(c)) {
    if (!split_list(c.adapter_name_or_path).empty())
      broken_rule(fmt::format("adapter_name_or_path goes with a finetuning_type that trains an adapter, and it is {}", c.finetuning_type),
                  "merge the adapter with loraine export first, and train on the result");
    if (!split_list(c.additional_target).empty() || c.bias != "none")
      broken_rule(
          fmt::format("additional_target and bias go with a finetuning_type that trains an adapter, and it is {}", c.finetuning_type),
          "leave them out");
  }
  if (c.finetuning_type != "lora") {
    if (c.use_rslora || c.use_dora || c.use_adalora || c.pissa_init || c.init_lora_weights != "true" || c.loraplus_lr_ratio ||
        c.lora_bias || c.trainable_token_indices || c.use_lorafa || c.alora_invocation_tokens)
      broken_rule(
          fmt::format(
              "use_rslora, use_dora, use_adalora, pissa_init, init_lora_weights, loraplus_lr_ratio, lora_bias, trainable_token_indices, "
              "use_lorafa and alora_invocation_tokens go with finetuning_type lora only, "
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
  if (c.stage != "sft" && (c.mask_history || c.train_on_prompt))
    broken_rule(fmt::format("mask_history and train_on_prompt go with stage sft only, and it is {}", c.stage), "leave them out");
  if (c.mask_history && c.train_on_prompt) broken_rule("mask_history and train_on_prompt exclude each other", "leave one of the two out");
  for (const auto& [key, target] : {std::pair{"lora_target", &c.lora_target}, {"oft_target", &c.oft_target}})
    if (split_list(*target).empty()) broken_rule(fmt::format("{} is empty", key), "name layers, or `all`");
  if (c.adapter_args && (c.finetuning_type == "lora" || !trains_adapter(c)))
    broken_rule(fmt::format("adapter_args goes with methods of PEFT's other than LoRA, and finetuning_type is {}", c.finetuning_type),
                "leave it out");
  if (c.max_steps == 0) broken_rule("max_steps is 0, expected a number of updates, or -1 for num_train_epochs");
  if (c.max_steps < 0 && c.num_train_epochs <= 0) broken_rule("num_train_epochs is 0 and max_steps is not set: there is nothing to train");
  check_method(c);
  check_loss(c);
  check_preferences(c);
  check_decisions(c);
  check_grpo(c);
  check_batching(c);
  check_sampling(c);
  check_types(c);
  check_llama_pro(c);
  check_fresh_start(c);
  check_new_tokens(c);
  check_gpu(c, settings_without_gpu(c));
  check_quant_aware(c);
  if (c.memory_limit) parse_memory_limit(*c.memory_limit);
  if (c.output_dir.empty()) broken_rule("output_dir is empty", "name a folder for the results");
  check_optimizer(c);
  check_evaluation(c);
  report_targets(c);
}

std::vector<std::string> config_notes(const TrainConfig& c) {
  std::vector<std::string> notes;
  if (const std::string unread = unread_report_keys(c); !unread.empty())
    notes.push_back(fmt::format("report_to names nothing that reads {}", unread));
  if (c.warmup_ratio && c.warmup_steps > 0)
    notes.push_back(fmt::format("warmup_steps is {} and warmup_ratio {}; as in LLaMA-Factory the ratio counts; leave one of the two out",
                                c.warmup_steps, *c.warmup_ratio));
  if (c.fp16) notes.push_back("fp16: on a CPU it is computed in float32, which is exacter; bf16: true takes less memory");
  if (c.fp16_full_eval) notes.push_back("fp16_full_eval: on a CPU evaluations are computed as training is");
  if (c.pure_bf16) notes.push_back("pure_bf16: computed as with bf16: true; what is trained and the optimizer's states stay in float32");
  for (const auto& [key, sets] : {std::pair{"dataset", c.dataset}, {"eval_dataset", c.eval_dataset}}) {
    std::set<std::string> seen, told;
    for (const std::string& name : split_list(sets))
      if (!seen.insert(name).second && told.insert(name).second)
        notes.push_back(fmt::format("{} names {} more than once; as in LLaMA-Factory it counts once", key, name));
  }
  std::vector<std::string> drawn;
  for (const char* key : {"temperature", "top_p", "top_k", "repetition_penalty"})
    if (c.stage != "grpo" && c.given.contains(key)) drawn.push_back(key);
  if (!drawn.empty())
    notes.push_back(
        fmt::format("stage {} draws no answers while it trains, so {} counts for do_predict only", c.stage, fmt::join(drawn, ", ")));
  if (c.push_to_hub && c.given.contains("hub_strategy") && c.hub_strategy != "end")
    notes.push_back(fmt::format("hub_strategy: {} uploads once, at the end, as `end` does; checkpoints stay here", c.hub_strategy));
  return notes;
}

void check_hub_config(const TrainConfig& c) {
  for (const auto& [key, token] : {std::pair{"hf_hub_token", c.hf_hub_token}, {"ms_hub_token", c.ms_hub_token}, {"hub_token", c.hub_token}})
    if (token && !is_token(*token)) broken_rule(fmt::format("{} holds blanks or letters that no token has", key), "copy it once more");
  for (const auto& [key, id] : {std::pair{"hub_model_id", c.hub_model_id}, {"export_hub_model_id", c.export_hub_model_id}})
    if (id && !is_hub_id(*id))
      broken_rule(fmt::format("{} is '{}', which is no name of a repository", key, *id),
                  "expected org/name, or a name, of letters, digits, -, _ and .");
  for (const auto& [key, branch] : {std::pair{"hub_revision", c.hub_revision}, {"model_revision", std::optional(c.model_revision)}})
    if (branch && !is_plain_revision(*branch)) broken_rule(fmt::format("{} is '{}', which is no branch, tag or commit", key, *branch));
}

void check_chat_config(const TrainConfig& c) {
  check_model(c);
  check_only_trained(c);
  check_gpu(c, answers_without_gpu(c));
}

void check_export_config(const TrainConfig& c) {
  check_model(c);
  check_on_the_cpu(c);
  if (!c.export_dir || c.export_dir->empty())
    broken_rule("export_dir is not given", "name the folder for the merged model: --export_dir DIR");
  if (c.quantization_bit && !split_list(c.adapter_name_or_path).empty())
    broken_rule("quantization_bit and adapter_name_or_path are both given, and adapters are not merged into a quantised model",
                "merge them first, and quantise the result");
  if (c.quantization_bit && c.quantization_method == "hqq")
    broken_rule("quantization_method is hqq, whose codes are made while a model is loaded, and not written",
                "leave quantization_method out for bitsandbytes' codes, or use export_quantization_bit");
  if (c.quantization_bit && c.export_legacy_format)
    broken_rule("quantization_bit and export_legacy_format are both given, and quantised weights are written as safetensors only",
                "leave export_legacy_format out");
  if (split_list(c.adapter_name_or_path).empty()) check_loftq(c);
}

}  // namespace loraine
