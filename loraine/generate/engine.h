// Greedy and sampled continuation with a KV cache. The one generator: chat, trace and export's check use it. Ids only, no text.
#pragma once
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "loraine/model/decoder.h"

namespace loraine {

struct GenerateOptions {
  int64_t max_new_tokens = 1024;
  bool do_sample = false;
  double temperature = 0.95, top_p = 0.7, repetition_penalty = 1.0;
  int64_t top_k = 50;
  std::vector<int32_t> stop_ids;
  uint64_t seed = 42;
};

class Engine {
 public:
  // capacity: most tokens of prompt and answer together; prefill runs in chunks of at most 512 rows.
  Engine(const Model& model, int64_t capacity, int64_t max_rank_columns);
  // Continues `prompt`; on_token gets each new id (stop ids included) and returns false to stop. adapter may be nullptr.
  std::vector<int32_t> generate(Context& ctx, std::span<const int32_t> prompt, const AdapterSet* adapter, const GenerateOptions& options,
                                const std::function<bool(int32_t)>& on_token = {});

 private:
  void run(Context& ctx, std::span<const int32_t> tokens, int64_t past, const AdapterSet* adapter, bool want_logits);
  const Model& model_;
  KvCache cache_;
  Arena activation_memory_, scratch_;
  Activations activations_;
  std::vector<float> logits_;
};

// Next id from logits [V] (changed in place): repetition penalty over `seen`, then greedy or temperature → top_k → top_p, in transformers'
// order.
int32_t sample(std::span<float> logits, std::span<const int32_t> seen, const GenerateOptions& options, std::mt19937_64& random);

}  // namespace loraine
