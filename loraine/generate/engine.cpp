// Prefill in chunks, then one token at a time.
#include "loraine/generate/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr int64_t kPrefillRows = 512;

// A stand-in of the widest adapter, so that memory is planned once whatever adapter runs later.
size_t activation_bytes(const Model& model, int64_t rank_columns, Arena& arena, Activations& out, int64_t rows) {
  out = plan_activations(model, rows, false, {}, arena);
  for (Tensor& t : out.blocks[0].adapter) t = arena.take(model.activation_dtype(), {rows, std::max<int64_t>(rank_columns, 1)});
  return arena.peak();
}

size_t measured(const Model& model, int64_t rank_columns, int64_t rows) {
  Arena dry;
  Activations ignored;
  return activation_bytes(model, rank_columns, dry, ignored, rows);
}

}  // namespace

Engine::Engine(const Model& model, int64_t capacity, int64_t max_rank_columns)
    : model_(model),
      cache_(model, capacity),
      activation_memory_(measured(model, max_rank_columns, std::min(capacity, kPrefillRows))),
      scratch_(scratch_bytes(model, std::min(capacity, kPrefillRows), false, {}) +
               static_cast<size_t>(std::min(capacity, kPrefillRows) * max_rank_columns) * 2 * sizeof(float)),
      logits_(static_cast<size_t>(model.config.vocab_size)) {
  activation_bytes(model, max_rank_columns, activation_memory_, activations_, std::min(capacity, kPrefillRows));
}

void Engine::run(Context& ctx, std::span<const int32_t> tokens, int64_t past, const AdapterSet* adapter, bool want_logits) {
  Batch batch;
  batch.tokens.assign(tokens.begin(), tokens.end());
  batch.positions.resize(tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), static_cast<int32_t>(past));
  batch.sequences = {{0, batch.rows(), 0, past + batch.rows()}};
  Pass pass{&activations_, &cache_, {}, &scratch_, false};
  if (adapter) {
    pass.adapters = {adapter};
    batch.adapter_rows = {{0, batch.rows(), 0}};
  }
  decoder_forward(ctx, model_, batch, pass);
  if (want_logits)
    head_logits(ctx, model_, Tensor(logits_.data(), Dtype::F32, {1, model_.config.vocab_size}),
                activations_.hidden.row_range(batch.rows() - 1, 1), adapter, scratch_);
}

std::vector<int32_t> Engine::generate(Context& ctx, std::span<const int32_t> prompt, const AdapterSet* adapter,
                                      const GenerateOptions& options, const std::function<bool(int32_t)>& on_token) {
  int64_t n = static_cast<int64_t>(prompt.size());
  if (n == 0) throw Error(ErrorKind::usage, "the prompt is empty");
  if (n >= cache_.capacity)
    throw Error(ErrorKind::usage,
                "the conversation has " + std::to_string(n) + " tokens, the cache holds " + std::to_string(cache_.capacity), "type clear");
  for (int64_t first = 0; first < n; first += kPrefillRows) {
    int64_t count = std::min(kPrefillRows, n - first);
    run(ctx, prompt.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first, adapter, first + count == n);
  }
  std::vector<int32_t> seen(prompt.begin(), prompt.end()), answer;
  std::mt19937_64 random(options.seed);
  int64_t limit = std::min(options.max_new_tokens, cache_.capacity - n);
  while (static_cast<int64_t>(answer.size()) < limit) {
    int32_t id = sample(logits_, seen, options, random);
    answer.push_back(id);
    seen.push_back(id);
    bool stop = std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end();
    if ((on_token && !on_token(id)) || stop || static_cast<int64_t>(answer.size()) == limit) break;
    run(ctx, std::span(&id, 1), n + static_cast<int64_t>(answer.size()) - 1, adapter, true);
  }
  return answer;
}

int32_t sample(std::span<float> logits, std::span<const int32_t> seen, const GenerateOptions& o, std::mt19937_64& random) {
  if (o.repetition_penalty != 1.0) {
    std::vector<int32_t> ids(seen.begin(), seen.end());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    for (int32_t id : ids) {
      float& x = logits[static_cast<size_t>(id)];
      x = static_cast<float>(x < 0 ? x * o.repetition_penalty : x / o.repetition_penalty);
    }
  }
  if (!o.do_sample || o.temperature <= 0) return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  size_t keep = o.top_k > 0 ? std::min<size_t>(static_cast<size_t>(o.top_k), order.size()) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(keep), order.end(),
                    [&](int32_t a, int32_t b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  std::vector<double> weights(keep);
  double top = logits[static_cast<size_t>(order[0])], sum = 0;
  for (size_t i = 0; i < keep; ++i) sum += weights[i] = std::exp((logits[static_cast<size_t>(order[i])] - top) / o.temperature);
  double mass = 0;
  size_t kept = 0;
  while (kept < keep && (kept == 0 || mass < o.top_p * sum)) mass += weights[kept++];
  double pick = std::uniform_real_distribution<double>(0, mass)(random);
  for (size_t i = 0; i < kept; ++i)
    if ((pick -= weights[i]) <= 0) return order[i];
  return order[kept - 1];
}

}  // namespace loraine
