// A new adapter whose start looks at the data, and the same one in a run that goes on. Called by attach() and by read_trained().
#include "loraine/adapters/data_start.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/core/error.h"
#include "loraine/model/attach.h"
#include "loraine/train/run.h"
#include "loraine/train/sampling.h"
#include "loraine/train/start_pass.h"

namespace loraine {
namespace {

StartData start_data(const Run& run) {
  const TrainConfig& c = run.config;
  const Dataset& set = run.input.data.train;
  const std::vector<int64_t> order = epoch_order(c, set, 0);
  const int64_t all = static_cast<int64_t>(set.size());
  const int64_t by_default = c.init_lora_weights == "corda" ? 256 : c.init_lora_weights == "lora_ga" ? 64 : all;
  StartData data;
  data.batch_size = c.per_device_train_batch_size;
  for (int64_t i = 0; i < std::min(all, c.start_samples.value_or(by_default)); ++i)
    run.objective->samples(item_of(set, static_cast<size_t>(order.empty() ? i : order[static_cast<size_t>(i)])), data.examples);
  std::erase_if(data.examples, [](const Example* e) { return e->input_ids.empty(); });
  if (data.examples.empty())
    throw Error(ErrorKind::bad_data, fmt::format("init_lora_weights {}: the training data hold no usable example", c.init_lora_weights));
  return data;
}

void attach_new(Run& run) {
  LoraConfig attached = run.lora;
  if (!run.objective->keeps_dropout()) attached.lora_dropout = 0;
  run.adapter = attach_adapter(run.model, attached, true);
  const bool experts = std::ranges::any_of(run.adapter.experts, [](const auto& one) { return one != nullptr; });
  if (run.adapter.embedding || run.adapter.head() || experts)
    throw Error(ErrorKind::unsupported, fmt::format("init_lora_weights: {} is built for layers alone", run.lora.init_lora_weights),
                "leave embedding, head and experts out of lora_target");
}

// The start as a set beside the run's, which is not trained.
AdapterSet unfilled_start(const Run& run) {
  LoraConfig config = run.lora;
  config.init_lora_weights = "true";
  return attach_lora(run.model.sites(), config, false);
}

}  // namespace

void read_from_whole_base(Run& run, const std::string& folder) {
  LoraConfig doubled = read_lora_config(folder);
  AdapterSet joined = attach_adapter(run.model, doubled, false);
  read_lora_tensors(joined, folder);
  AdapterSet start = unfilled_start(run);
  split_whole_base(joined, run.adapter, start);
  if (run.data_start.sites.empty()) run.data_start = std::move(start);
  for (const Parameter& from : joined.parameters())  // what is trained beside
    for (const Parameter& to : run.adapter.parameters())
      if (from.name == to.name && !from.name.ends_with(".lora_A.weight") && !from.name.ends_with(".lora_B.weight"))
        std::copy_n(from.value.f32(), from.value.numel(), to.value.f32());
  run.adapter.refresh(run.ctx);
}

void attach_from_data(Run& run) {
  const std::string& resumed = run.input.folder.resume_from;
  const auto seed = static_cast<uint64_t>(run.config.seed);
  if (run.lora.init_lora_weights == "eva") {
    if (resumed.empty()) {
      const EvaStart start = find_eva_start(run.model, run.lora, start_data(run), run.screen.message);
      run.lora = start.config;
      attach_new(run);
      start_adapter(run.adapter, run.model, run.lora, seed);
      start.fill(run.adapter);
    } else {  // the ranks are those that the checkpoint was written with
      const LoraConfig written = read_lora_config(resumed);
      run.lora.rank_pattern = written.rank_pattern;
      run.lora.alpha_pattern = written.alpha_pattern;
      run.lora.target_modules = written.target_modules;
      run.lora.target_regex = written.target_regex;
      run.lora.exclude_modules = written.exclude_modules;
      run.lora.exclude_regex = written.exclude_regex;
      run.lora.layers_to_transform = written.layers_to_transform;
      run.lora.layers_pattern = written.layers_pattern;
      attach_new(run);
    }
    return;
  }
  attach_new(run);
  if (resumed.empty()) {
    start_adapter(run.adapter, run.model, run.lora, seed);  // what has no start of its own
    run.data_start = unfilled_start(run);
    fill_from_data(run.data_start, run.model, run.lora, start_data(run), seed);
    for (size_t s = 0; s < run.adapter.sites.size(); ++s) {
      if (!run.adapter.sites[s]) continue;
      const std::vector<AdapterMatrices> to = run.adapter.sites[s]->matrices(), from = run.data_start.sites[s]->matrices();
      for (size_t i = 0; i < to.size(); ++i) {
        std::copy_n(from[i].a.f32(), from[i].a.numel(), to[i].a.f32());
        std::copy_n(from[i].b.f32(), from[i].b.numel(), to[i].b.f32());
      }
    }
  } else {
    read_from_whole_base(run, resumed);
  }
  take_out_of_base(run.adapter, run.model, run.data_start);
}

}  // namespace loraine
