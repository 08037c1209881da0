// Prefill and decoding of one sequence, with and without an adapter.
#include "loraine/cli/bench/generate.h"

#include "loraine/cli/bench/measure.h"
#include "loraine/cli/bench/random_model.h"
#include "loraine/generate/engine.h"

namespace loraine {
namespace {

// Bytes of weights that one decoded token reads.
int64_t bytes_per_token(const Model& model) {
  size_t bytes = 0;
  for (const Weight* w : model.sites())
    for (const WeightPart& part : w->parts) bytes += part.weight.bytes();
  return static_cast<int64_t>(bytes);
}

}  // namespace

GenerateFigures bench_generate(Context& ctx, const Model& model, int64_t rank, int64_t prompt_tokens, int64_t new_tokens, int64_t repeats) {
  const AdapterSet adapter = random_adapter(model, rank, false);
  int64_t adapter_bytes = 0;
  for (const Parameter& p : adapter.parameters()) adapter_bytes += static_cast<int64_t>(p.value.bytes());
  Engine engine(model, prompt_tokens + new_tokens + 1, rank_columns(adapter));
  std::vector<int32_t> prompt(static_cast<size_t>(prompt_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(model.config.vocab_size));
  std::vector<std::pair<const void*, int64_t>> pieces;
  auto add = [&](const Weight& w) {
    for (const WeightPart& part : w.parts) pieces.push_back({part.weight.data, static_cast<int64_t>(part.weight.bytes())});
  };
  for (const Weight* w : model.sites()) add(*w);
  BestRound prefill, token, adapter_prefill, adapter_token, read;
  GenerateOptions options;
  options.max_new_tokens = new_tokens + 1;
  auto generate = [&](const AdapterSet* with, BestRound& first, BestRound& next) {
    double start = now(), last = start, last_cpu = process_cpu_seconds();
    engine.generate(ctx, prompt, with, options, [&](int32_t) {
      double t = now(), cpu = process_cpu_seconds();
      (last == start ? first : next).take(t - last, cpu - last_cpu);
      last = t, last_cpu = cpu;
      return true;
    });
  };
  constexpr int kReads = 5;  // the best of them, as of the tokens
  GenerateFigures figures;
  for (int64_t round = 0; round <= repeats; ++round) {
    BestRound now_token, now_adapter;
    generate(nullptr, prefill, now_token);
    generate(&adapter, adapter_prefill, now_adapter);
    BestRound now_read;
    for (int i = 0; i < kReads; ++i) {
      const ProductTime all = time_plain_read(pieces);
      now_read.take(all.wall, all.cpu);
    }
    if (round == 0) {  // the first one touches the memory
      prefill = adapter_prefill = {};
      continue;
    }
    token.take(now_token.wall, now_token.cpu);
    adapter_token.take(now_adapter.wall, now_adapter.cpu);
    read.take(now_read.wall, now_read.cpu);
    figures.round_cpu_shares.push_back(now_read.cpu / now_token.cpu);
    figures.round_adapter_cpu_shares.push_back(now_read.cpu / now_adapter.cpu);
  }
  const double bytes = static_cast<double>(bytes_per_token(model)), more = static_cast<double>(adapter_bytes);
  figures.prefill = static_cast<double>(prompt_tokens) / prefill.wall;
  figures.decode = 1 / token.wall;
  figures.adapter_decode = 1 / adapter_token.wall;
  figures.read_rate = bytes / read.wall;
  figures.decode_rate = bytes / token.wall;
  figures.adapter_rate = (bytes + more) / adapter_token.wall;
  figures.cpu_share = read.cpu / token.cpu;
  return figures;
}

}  // namespace loraine
