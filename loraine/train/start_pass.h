// Starts out of the data (adapters/data_start.h): passes of the base over examples of the run before its first step. Called by attach().
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/data/examples/example.h"
#include "loraine/model/model.h"

namespace loraine {

// The examples in the order of the first epoch, as many as start_samples says; examples of a batch.
struct StartData {
  std::vector<const Example*> examples;
  int64_t batch_size = 1;
};

// EVA: passes over the batches, again and again, until the directions have settled. The config with the ranks that layers get (the adapter
// is attached anew by it), and `fill`, which gives A its directions there.
struct EvaStart {
  LoraConfig config;
  std::function<void(const AdapterSet& set)> fill;
};
EvaStart find_eva_start(const Model& model, const LoraConfig& config, const StartData& data,
                        const std::function<void(const std::string&)>& message);

// CorDA and LoRA-GA: A and B of `set`, which the config attached. The base is not changed here.
void fill_from_data(const AdapterSet& set, const Model& model, const LoraConfig& config, const StartData& data, uint64_t seed);

}  // namespace loraine
