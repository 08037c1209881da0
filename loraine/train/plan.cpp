// What is settled before step 1: the adapter, the number of steps, the learning rate over them. Called by train().
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/adapters/data_start.h"
#include "loraine/adapters/lora.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/adapters/start.h"
#include "loraine/model/attach.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/config/method.h"
#include "loraine/train/optimizers/lorafa.h"
#include "loraine/train/run.h"
#include "loraine/train/sampling.h"
#include "loraine/train/token_batches.h"

namespace loraine {
namespace {

// A step count: below 1 it is a share of all steps, rounded up.
int64_t step_count(double value, int64_t total) {
  return value < 1 ? static_cast<int64_t>(std::ceil(value * static_cast<double>(total))) : static_cast<int64_t>(value);
}
OrderedJson step_json(double value) { return value < 1 ? OrderedJson(value) : OrderedJson(static_cast<int64_t>(value)); }

bool inside(const std::string& path, const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::path relative = fs::weakly_canonical(path, failed).lexically_relative(fs::weakly_canonical(folder, failed));
  return !failed && !relative.empty() && relative != "." && *relative.begin() != "..";
}

// Names and patterns that reach nothing; `all` names layers that a model need not have.
void warn_of_words(Run& run) {
  LoraConfig given = run.lora;
  const std::string& target = run.config.finetuning_type == "oft" ? run.config.oft_target : run.config.lora_target;
  if (target == "all" || target == "all-linear") given.target_modules.clear();
  std::vector<std::string> paths = {run.model.config.names.embedding};
  for (const Weight* site : run.model.sites())
    for (const WeightPart& part : site->parts) paths.push_back(part.name);
  for (const std::string& name : expert_parameters(run.model)) paths.push_back(name);
  for (const std::string& line : words_without_effect(given, paths)) warn(run, ErrorKind::usage, line);
}

void warn_of_warmup(Run& run, int64_t warmup) {
  const TrainConfig& c = run.config;
  if (warmup == 0) return;
  const std::string given =
      c.warmup_ratio ? fmt::format("warmup_ratio {}", *c.warmup_ratio) : fmt::format("warmup_steps {}", c.warmup_steps);
  if (c.lr_scheduler_type == "constant" || c.lr_scheduler_type == "reduce_lr_on_plateau")
    warn(run, ErrorKind::usage,
         fmt::format("lr_scheduler_type {} has no warm-up, so {} has no effect; {}", c.lr_scheduler_type, given,
                     c.lr_scheduler_type == "constant" ? "constant_with_warmup has one" : "leave it out"));
  else if (warmup >= run.state.max_steps)
    warn(run, ErrorKind::usage,
         fmt::format(
             "the warm-up ({}) is as long as the run of {} updates or longer, so the learning rate does not get to {} and falls; set "
             "warmup_ratio: 0.1, or train longer",
             given, run.state.max_steps, c.learning_rate));
}

// LoRA-FA over an adapter that is there.
void freeze_a(const AdapterSet& set, const std::string& folder) {
  const auto experts = [](const auto& one) { return one != nullptr; };
  if (set.embedding || std::ranges::any_of(set.experts, experts))
    throw Error(ErrorKind::unsupported, folder + ": use_lorafa goes with LoRA on layers, and this adapter has LoRA on embedding or experts",
                "leave use_lorafa out");
  for (const auto& site : set.sites) {
    if (!site) continue;
    auto* lora = dynamic_cast<Lora*>(site.get());
    if (!lora || !site->as_lora())
      throw Error(ErrorKind::unsupported,
                  folder + ": use_lorafa goes with plain LoRA, and this adapter is DoRA, AdaLoRA or has biases of B",
                  "leave use_lorafa out");
    lora->freeze_a();
  }
}

}  // namespace

void attach(Run& run) {
  const TrainConfig& c = run.config;
  if (!trains_adapter(c)) return attach_whole(run);
  std::vector<std::string> folders;
  for (const FoundPlace& place : adapter_places(c, kSeveralAdapters)) folders.push_back(place.path);
  if (c.overwrite_output_dir && run.input.folder.resume_from.empty())
    for (const std::string& folder : folders)
      if (inside(folder, c.output_dir))
        throw Error(ErrorKind::usage, fmt::format("the adapter {} lies in output_dir, and overwrite_output_dir would remove it", folder),
                    "choose another output_dir");
  const size_t merged = c.create_new_adapter || folders.empty() ? folders.size() : folders.size() - 1;
  for (size_t i = 0; i < folders.size(); ++i) {  // as LLaMA-Factory: all but the last are merged into the base, the last is trained on
    LoraConfig config;
    AdapterSet set = i >= merged ? load_adapter_to_train(run.model, folders[i], &config, run.objective->keeps_dropout())
                                 : load_adapter(run.model, folders[i], &config);
    for (const auto& [kind, text] : adapter_warnings(config, folders[i], run.input.files)) warn(run, kind, text);
    if (i >= merged) {
      const std::string method = config.method ? config.method->kind->setting : "lora";
      if (method != c.finetuning_type)
        throw Error(ErrorKind::usage,
                    fmt::format("{}: the adapter is one of {}, and finetuning_type is {}", folders[i], method, c.finetuning_type),
                    fmt::format("set finetuning_type: {}", method));
      run.adapter = std::move(set);
      run.lora = config;
      if (c.use_lorafa) freeze_a(run.adapter, folders[i]);
    } else {
      try {
        merge_into_base(run.model, set);
      } catch (const Error& error) { throw Error(error.kind, folders[i] + ": " + error.what(), error.hint); }
      if (run.screen.message) run.screen.message("merged " + folders[i] + " into the base");
    }
  }
  if (merged == folders.size()) {
    run.lora = method_config(c);
    if (c.use_llama_pro) run.lora.layers_to_transform = llama_pro_layers(run.model.config.num_hidden_layers, c.freeze_trainable_layers);
    for (const std::string& line : name_targets(run.lora, run.model))
      if (run.screen.message) run.screen.message(line);
    name_experts(run.lora, expert_parameters(run.model));
    warn_of_words(run);
    if (starts_from_data(run.lora)) {
      attach_from_data(run);
      run.lora.base_model_name_or_path = c.model_name_or_path;
      return;
    }
    LoraConfig attached = run.lora;
    if (!run.objective->keeps_dropout()) attached.lora_dropout = 0;
    run.adapter = attach_adapter(run.model, attached, true);
    start_adapter(run.adapter, run.model, run.lora, static_cast<uint64_t>(c.seed));
    if (quantises_base(run.lora) && c.quantization_bit.value_or(8) == 4 && c.double_quantization && run.screen.message)
      run.screen.message("LoftQ keeps the scales of its weights in f32; double_quantization goes for the other layers");
  }
  run.lora.base_model_name_or_path = c.model_name_or_path;
}

namespace {

// Everything that follows from the size of a batch, and the memory that it takes.
void plan_batches(Run& run) {
  const TrainConfig& c = run.config;
  int64_t n = static_cast<int64_t>(run.input.data.train.size());
  const bool streams = run.input.stream != nullptr;
  if (!streams && n == 0)
    throw Error(ErrorKind::bad_data, "the training data hold no usable example", "look at the rows that were dropped, and at cutoff_len");
  if (!streams && !run.input.rollouts && run.input.data.train.num_trained == 0)
    throw Error(ErrorKind::usage, "all labels of the training data are masked: nothing would be trained",
                "check the template and the roles of the data");
  // As transformers counts an epoch whose end is not known.
  run.micro_batches = streams              ? c.max_steps * c.gradient_accumulation_steps
                      : run.input.rollouts ? rollout_micro_batches(run, n)
                                           : batch_count(n, c.per_device_train_batch_size, c.dataloader_drop_last);
  if (run.micro_batches == 0)
    throw Error(ErrorKind::usage,
                fmt::format("dataloader_drop_last leaves no batch: {} examples, and per_device_train_batch_size is {}", n,
                            c.per_device_train_batch_size),
                "lower per_device_train_batch_size, or leave dataloader_drop_last out");
  for (const Run::EvalSet& set : run.eval_sets())
    if (batch_count(static_cast<int64_t>(set.data->size()), c.per_device_eval_batch_size, c.dataloader_drop_last) == 0)
      throw Error(ErrorKind::usage,
                  fmt::format("dataloader_drop_last leaves no batch to evaluate: {} examples, and per_device_eval_batch_size is {}",
                              set.data->size(), c.per_device_eval_batch_size),
                  "lower per_device_eval_batch_size, or leave dataloader_drop_last out");
  run.updates_per_epoch = (run.micro_batches + c.gradient_accumulation_steps - 1) / c.gradient_accumulation_steps;
  const bool by_tokens = counts_tokens_of_batches(c);
  if (by_tokens) {
    run.updates_per_epoch = TokenBatches::count(c, run.input.data.train, 1);
    run.micro_batches = run.updates_per_epoch * c.gradient_accumulation_steps;
  }
  TrainerState& s = run.state;
  s.max_steps = c.max_steps > 0 ? c.max_steps
                : by_tokens     ? TokenBatches::count(c, run.input.data.train, c.num_train_epochs)
                                : static_cast<int64_t>(std::ceil(c.num_train_epochs * static_cast<double>(run.updates_per_epoch)));
  s.num_train_epochs = streams ? INT64_MAX : epoch_count(c.max_steps, run.updates_per_epoch, c.num_train_epochs);
  s.train_batch_size = c.per_device_train_batch_size;
  s.logging_steps = step_json(c.logging_steps);
  s.save_steps = step_json(c.save_steps);
  s.eval_steps = step_json(c.eval_steps.value_or(500));
  if (c.eval_strategy == "steps" && !c.eval_steps) s.eval_steps = s.logging_steps;
  s.early_stopping.patience = c.early_stopping_steps.value_or(0);
  run.logging_steps = std::max<int64_t>(1, step_count(c.logging_steps, s.max_steps));
  run.save_steps = std::max<int64_t>(1, step_count(c.save_steps, s.max_steps));
  run.eval_steps = std::max<int64_t>(1, step_count(c.eval_steps.value_or(c.logging_steps), s.max_steps));
  int64_t warmup = warmup_step_count(c.warmup_steps, c.warmup_ratio, s.max_steps);
  warn_of_warmup(run, warmup);
  std::vector<Parameter> parameters = trained(run.adapter.parameters());
  for (Parameter& own : run.objective->parameters()) parameters.push_back(std::move(own));
  Recipe recipe = c.use_lorafa ? lorafa_recipe(c, parameters, run.adapter) : recipe_of(c, run.model.config, parameters, warmup);
  run.optimizer = std::make_unique<Optimizer>(std::move(parameters), std::move(recipe));
  nlohmann::json kwargs = c.lr_scheduler_kwargs ? nlohmann::json::parse(*c.lr_scheduler_kwargs) : nlohmann::json::object();
  run.schedule = std::make_unique<Schedule>(c.lr_scheduler_type, c.learning_rate, s.max_steps, warmup,
                                            scheduler_kwargs_with_defaults(c.lr_scheduler_type, kwargs, s.max_steps, warmup));
  if (run.lora.adalora) {
    run.lora.adalora->total_step = s.max_steps;
    run.ranks = std::make_unique<RankBudget>(run.adapter, *run.lora.adalora);
  }
  plan_memory(run);
}

}  // namespace

void plan(Run& run) {
  for (;;) {
    try {
      return plan_batches(run);
    } catch (const Error& error) {
      int64_t& batch = run.input.config.per_device_train_batch_size;
      if (error.kind != ErrorKind::out_of_memory || !run.config.auto_find_batch_size || batch == 1) throw;
      batch = (batch + 1) / 2;
      if (run.screen.message)
        run.screen.message(
            fmt::format("auto_find_batch_size: the run does not fit into memory; per_device_train_batch_size is now {}", batch));
    }
  }
}

}  // namespace loraine
