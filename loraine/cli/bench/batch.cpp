// The ways of decoding run in turn, so that what else runs on the machine meets all of them.
#include "loraine/cli/bench/batch.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/cli/bench/measure.h"
#include "loraine/generate/engine.h"
#include "loraine/model/attach.h"

namespace loraine {
namespace {

struct Adapters {
  LoraConfig config;
  std::vector<AdapterSet> sets;
};

Adapters make_adapters(const Model& model, int64_t rank) {
  Adapters out;
  out.config.r = rank;
  out.config.lora_alpha = static_cast<double>(2 * rank);
  set_targets(out.config, "all");
  for (int64_t i = 0; i < BatchFigures::kSequences; ++i) {
    out.sets.push_back(attach_lora(model.sites(), out.config, false));
    init_lora(out.sets.back(), model.sites(), out.config, static_cast<uint64_t>(i + 1));
  }
  return out;
}

// The least time of a step in which every sequence gets one token.
void time_steps(Context& ctx, const Model& model, Engine& engine, const std::vector<const AdapterSet*>& adapters, int64_t new_tokens,
                double& best) {
  constexpr int64_t kPromptTokens = 16;
  const int64_t count = static_cast<int64_t>(adapters.size());
  GenerateOptions options;
  options.max_new_tokens = new_tokens + count + 1;  // the first ones get a token more for every prompt that is read after theirs
  std::vector<int64_t> requests;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> prompt;
    for (int64_t t = 0; t < kPromptTokens; ++t) prompt.push_back(static_cast<int32_t>((t * 7919 + i * 104729) % model.config.vocab_size));
    requests.push_back(engine.submit({prompt, adapters[static_cast<size_t>(i)], options, {}}));
  }
  for (int64_t i = 0; i < count; ++i) engine.step(ctx);
  for (int64_t i = 0; i < new_tokens; ++i) {
    const double start = now();
    engine.step(ctx);
    best = std::min(best, now() - start);
  }
  for (int64_t request : requests) engine.take(request);
}

// What the engine does to take up another adapter, before it computes.
double time_switch(Engine& engine, const AdapterSet& one, const AdapterSet& other) {
  double best = 1e30;
  for (int i = 0; i < 100; ++i) {
    const double start = now();
    const int64_t request = engine.submit({{1}, i % 2 ? &one : &other, {}, {}});
    best = std::min(best, now() - start);
    engine.take(request);
  }
  return best;
}

double time_load(Model& model, const Adapters& adapters, int64_t repeats) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / ("loraine_bench_" + std::to_string(getpid()));
  double best = 1e30;
  try {
    write_peft(adapters.sets[0], adapters.config, folder.string());
    for (int64_t i = 0; i <= repeats; ++i) {
      const double start = now();
      const AdapterSet set = load_adapter(model, folder.string());
      best = std::min(best, now() - start);
    }
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
    throw;
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return best;
}

}  // namespace

BatchFigures bench_batch(Context& ctx, Model& model, int64_t rank, int64_t new_tokens, int64_t repeats) {
  constexpr int64_t kMany = BatchFigures::kSequences, kMost = BatchFigures::kMost;
  const Adapters adapters = make_adapters(model, rank);
  Engine engine(model, kMost * (new_tokens + kMost + 32), rank_columns(adapters.sets[0]), kMost);
  std::vector<const AdapterSet*> each;
  for (const AdapterSet& set : adapters.sets) each.push_back(&set);
  const std::vector<const AdapterSet*> base(kMany, nullptr), first(kMany, each[0]), most_base(kMost, nullptr);
  std::vector<const AdapterSet*> in_turn;
  for (size_t i = 0; i < static_cast<size_t>(kMost); ++i) in_turn.push_back(each[i % each.size()]);
  BatchFigures f;
  f.one = f.one_adapter = f.many = f.many_one = f.many_each = f.most = f.most_each = 1e30;
  for (int64_t round = 0; round <= repeats; ++round) {  // the first one touches the memory
    time_steps(ctx, model, engine, {nullptr}, new_tokens, f.one);
    time_steps(ctx, model, engine, {each[0]}, new_tokens, f.one_adapter);
    time_steps(ctx, model, engine, base, new_tokens, f.many);
    time_steps(ctx, model, engine, first, new_tokens, f.many_one);
    time_steps(ctx, model, engine, each, new_tokens, f.many_each);
    time_steps(ctx, model, engine, most_base, std::min<int64_t>(new_tokens, 8), f.most);
    time_steps(ctx, model, engine, in_turn, std::min<int64_t>(new_tokens, 8), f.most_each);
  }
  for (const Parameter& p : adapters.sets[0].parameters()) f.adapter_bytes += static_cast<int64_t>(p.value.bytes());
  f.load_seconds = time_load(model, adapters, repeats);
  f.switch_seconds = time_switch(engine, *each[0], *each[1]);
  return f;
}

}  // namespace loraine
