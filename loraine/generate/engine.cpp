// Where the prompts and the tokens of several sequences become batches.
#include "loraine/generate/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <functional>
#include <numeric>

#include "loraine/adapters/embedding_lora.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/core/error.h"
#include "loraine/generate/apply_mask.h"
#include "loraine/generate/beam_search.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

constexpr int64_t kPrefillRows = 512;

// A stand-in of the widest adapter, so that memory is planned once whatever adapter runs later.
size_t activation_bytes(const Model& model, int64_t rank_columns, Arena& arena, Activations& out, int64_t rows) {
  out = plan_activations(model, rows, false, {}, arena);
  out.columns[0] = arena.take(model.activation_dtype(), {rows, std::max<int64_t>(rank_columns, 1)});
  return arena.peak();
}

size_t measured(const Model& model, int64_t rank_columns, int64_t rows) {
  Arena dry;
  Activations ignored;
  return activation_bytes(model, rank_columns, dry, ignored, rows);
}

// Rows of a decoding step: as many as products run row by row, so that nobody's bits depend on who else runs.
constexpr int64_t kDecodeRows = kFewRows;

int64_t rows_of_batches(int64_t capacity, int64_t sequences) {
  return std::max(std::min(capacity, kPrefillRows), std::min(sequences, kDecodeRows));
}

// What LoRA on embedding and head takes of it, the layers do not hold at that time.
size_t engine_scratch_bytes(const Model& model, int64_t rank_columns, int64_t rows) {
  const size_t columns_bytes = static_cast<size_t>(rows * rank_columns) * sizeof(float) + 64 * 4;
  return std::max(scratch_bytes(model, rows, false, {}, rank_columns), columns_bytes);
}

size_t logits_of_step(const Model& model, int64_t sequences) {
  return static_cast<size_t>(std::min(sequences, kDecodeRows) * model.config.vocab_size);
}

}  // namespace

size_t engine_bytes(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences) {
  const int64_t rows = rows_of_batches(capacity, sequences), columns = std::max<int64_t>(max_rank_columns, 1);
  return measured(model, columns, rows) + engine_scratch_bytes(model, columns, rows) +
         kv_cache_bytes(model, capacity, std::max<int64_t>(sequences, 1)) + logits_of_step(model, sequences) * sizeof(float);
}

int64_t rank_columns(const AdapterSet& set) {
  int64_t widest = 1;
  for (const auto& site : set.sites)
    if (site) widest = std::max(widest, site->saved_width());
  for (const auto& experts : set.experts)
    if (experts) widest = std::max(widest, experts->shape().r);
  return set.embedding ? std::max(widest, set.embedding->r()) : widest;
}

Engine::Engine(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences)
    : model_(model),
      sequences_(std::max<int64_t>(sequences, 1)),
      rows_(rows_of_batches(capacity, sequences_)),
      cache_(model, capacity, sequences_),
      logits_(logits_of_step(model, sequences_)) {
  plan(max_rank_columns);
}

void Engine::plan(int64_t columns) {
  rank_columns_ = std::max<int64_t>(columns, 1);
  activation_memory_ = Arena(measured(model_, rank_columns_, rows_));
  activation_bytes(model_, rank_columns_, activation_memory_, activations_, rows_);
  scratch_ = Arena(engine_scratch_bytes(model_, rank_columns_, rows_));
}

void Engine::reserve_rank_columns(int64_t columns) {
  if (columns > rank_columns_) plan(columns);
}

int64_t Engine::submit(Request request) {
  const int64_t n = static_cast<int64_t>(request.prompt.size()), beams = std::max<int64_t>(request.options.num_beams, 1);
  if (n == 0) throw Error(ErrorKind::usage, "the prompt is empty");
  if (beams > kDecodeRows)
    throw Error(ErrorKind::usage, "num_beams is " + std::to_string(beams) + ", at most " + std::to_string(kDecodeRows) + " run at once");
  if (beams > 1 && cache_.has_states())
    throw Error(ErrorKind::unsupported, "num_beams is not built for models with recurrent layers, whose state each beam would need",
                "leave num_beams out");
  if (beams > 1 && request.mask)
    throw Error(ErrorKind::unsupported, "num_beams is not built together with a grammar", "leave num_beams out");
  const int64_t most = cache_.capacity / beams;
  if (n >= most)
    throw Error(ErrorKind::usage, "the conversation has " + std::to_string(n) + " tokens, the cache holds " + std::to_string(most),
                "type clear");
  if (request.adapter && rank_columns(*request.adapter) > rank_columns_)
    throw Error(ErrorKind::internal, "adapter '" + request.adapter->name + "' has " + std::to_string(rank_columns(*request.adapter)) +
                                         " rank columns, the engine is planned for " + std::to_string(rank_columns_));
  Entry entry;
  entry.seen = request.prompt;
  entry.random.seed(request.options.seed);
  entry.limit = std::min(request.options.max_new_tokens, most - n);
  entry.finished = entry.limit <= 0 && !request.on_prompt_logprobs;
  entry.beams = beams;
  if (beams > 1) {
    entry.search = std::make_shared<BeamSearch>(request.prompt, request.options, entry.limit);
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(beams * model_.config.vocab_size)));
  }
  entry.request = std::move(request);
  entries_.emplace(next_, std::move(entry));
  return next_++;
}

void Engine::hold(int64_t request, bool held) { entries_.at(request).held = held; }

bool Engine::done(int64_t request) const { return entries_.at(request).finished; }

bool Engine::started(int64_t request) const { return entries_.at(request).kv_start >= 0; }

EngineLoad Engine::load() const {
  EngineLoad load;
  load.capacity = cache_.capacity;
  for (const auto& [number, entry] : entries_) {
    if (entry.finished) continue;
    ++(entry.kv_start >= 0 ? load.running : load.waiting);
    if (entry.kv_start >= 0) load.rows += entry.rows();
  }
  return load;
}

std::vector<int32_t> Engine::take(int64_t request) {
  auto node = entries_.extract(request);
  if (node.empty()) throw Error(ErrorKind::internal, "take: there is no request " + std::to_string(request));
  const Entry& entry = node.mapped();
  return {entry.seen.begin() + entry.prompt_length(), entry.seen.end()};
}

// Rows of the cache for the entry: the first gap between those of the others that is long enough.
bool Engine::place(Entry& entry) {
  std::vector<std::pair<int64_t, int64_t>> taken;
  std::vector<int64_t> slots;
  for (const auto& [number, other] : entries_)
    if (!other.finished && other.kv_start >= 0) {
      taken.emplace_back(other.kv_start, other.rows());
      slots.push_back(other.slot);
    }
  if (static_cast<int64_t>(taken.size()) >= sequences_) return false;
  std::sort(taken.begin(), taken.end());
  int64_t start = 0;
  for (const auto& [first, count] : taken) {
    if (start + entry.rows() <= first) break;
    start = first + count;
  }
  if (start + entry.rows() > cache_.capacity) return false;
  entry.kv_start = start;
  for (entry.slot = 0; std::ranges::find(slots, entry.slot) != slots.end();) ++entry.slot;
  return true;
}

// Runs the rows of `batch` (tokens set): lengths[i] of entries[i], one after the other, entries of an adapter side by side.
void Engine::run(Context& ctx, Batch& batch, std::span<Entry* const> entries, std::span<const int64_t> lengths) {
  Pass pass{&activations_, &cache_, {}, &scratch_, false};
  int64_t row = 0;
  for (size_t i = 0; i < entries.size(); row += lengths[i++]) {
    const Entry& entry = *entries[i];
    for (int64_t t = 0; t < lengths[i]; ++t) batch.positions.push_back(static_cast<int32_t>(entry.kv_length + t));
    batch.sequences.push_back({row, lengths[i], entry.kv_start, entry.kv_length + lengths[i], entry.slot});
    if (!entry.request.adapter) continue;
    if (pass.adapters.empty() || pass.adapters.back() != entry.request.adapter) {
      batch.adapter_rows.push_back({row, 0, static_cast<int>(pass.adapters.size())});
      pass.adapters.push_back(entry.request.adapter);
    }
    batch.adapter_rows.back().length += lengths[i];
  }
  decoder_forward(ctx, model_, batch, pass);
  for (size_t i = 0; i < entries.size(); ++i) entries[i]->kv_length += lengths[i];
}

// The next token of each entry, from rows [first_row, …) of the last batch. Every entry gets its own before an on_token's exception goes
// on.
void Engine::add_tokens(Context& ctx, std::span<Entry* const> entries, int64_t first_row) {
  const int64_t n = static_cast<int64_t>(entries.size()), V = model_.config.vocab_size;
  std::vector<int32_t> ids(entries.size());
  std::vector<TokenLogprobs> told(entries.size());
  std::vector<std::exception_ptr> refused(entries.size());
  for (Entry* entry : entries) entry->finished = true;  // should memory run out here
  const auto head_of = [&](int64_t i) {
    const AdapterSet* set = entries[static_cast<size_t>(i)]->request.adapter;
    return changes_head(set) ? set : nullptr;
  };
  for (int64_t first = 0, end = 0; first < n; first = end) {  // rows with the same head together
    for (end = first + 1; end < n && head_of(end) == head_of(first);) ++end;
    head_logits(ctx, model_, Tensor(logits_.data() + first * V, Dtype::F32, {end - first, V}),
                activations_.hidden.row_range(first_row + first, end - first), head_of(first), scratch_);
  }
  parallel_for(n, [&](int64_t i) {
    Entry& entry = *entries[static_cast<size_t>(i)];
    const std::span<float> logits = std::span(logits_).subspan(static_cast<size_t>(i * V), static_cast<size_t>(V));
    const GenerateOptions& options = entry.request.options;
    const bool tells = entry.request.on_logprobs && options.logprobs >= 0;
    const std::vector<float> raw(logits.begin(), tells ? logits.end() : logits.begin());
    if (entry.request.mask) refused[static_cast<size_t>(i)] = apply_mask(*entry.request.mask, logits);
    ids[static_cast<size_t>(i)] = sample(logits, entry.seen, entry.request.prompt.size(), options, entry.random);
    if (tells) told[static_cast<size_t>(i)] = token_logprobs(raw, ids[static_cast<size_t>(i)], options.logprobs);
  });
  std::exception_ptr failure;
  for (size_t i = 0; i < entries.size(); ++i) {
    try {
      if (refused[i]) std::rethrow_exception(refused[i]);
      if (const Request& request = entries[i]->request; request.on_logprobs && request.options.logprobs >= 0) request.on_logprobs(told[i]);
      if (entries[i]->request.mask) accept_token(*entries[i]->request.mask, ids[i]);
      deliver(*entries[i], ids[i]);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// The prompt's ids that rows [0, rows) of the last batch foretell; the first of these rows is the prompt's id number `first`.
void Engine::tell_prompt(Context& ctx, Entry& entry, int64_t first, int64_t rows) {
  const int64_t V = model_.config.vocab_size, most = static_cast<int64_t>(logits_.size()) / V;
  const int64_t count = std::min(rows, entry.prompt_length() - 1 - first);
  const AdapterSet* set = changes_head(entry.request.adapter) ? entry.request.adapter : nullptr;
  std::vector<TokenLogprobs> told(static_cast<size_t>(std::min(most, std::max<int64_t>(count, 0))));
  for (int64_t row = 0; row < count; row += most) {
    const int64_t n = std::min(most, count - row);
    head_logits(ctx, model_, Tensor(logits_.data(), Dtype::F32, {n, V}), activations_.hidden.row_range(row, n), set, scratch_);
    parallel_for(n, [&](int64_t i) {
      told[static_cast<size_t>(i)] =
          token_logprobs(std::span(logits_).subspan(static_cast<size_t>(i * V), static_cast<size_t>(V)),
                         entry.request.prompt[static_cast<size_t>(first + row + i + 1)], entry.request.options.prompt_logprobs);
    });
    for (int64_t i = 0; i < n; ++i) entry.request.on_prompt_logprobs(told[static_cast<size_t>(i)]);
  }
}

void Engine::deliver(Entry& entry, int32_t id) {
  entry.seen.push_back(id);
  const GenerateOptions& o = entry.request.options;
  const bool last =
      static_cast<int64_t>(entry.seen.size()) == entry.room() || std::find(o.stop_ids.begin(), o.stop_ids.end(), id) != o.stop_ids.end();
  const bool goes_on = !entry.request.on_token || entry.request.on_token(id);
  entry.finished = last || !goes_on;
}

// One chunk of the first prompt that is not read; its last one gives the first token.
void Engine::read_prompts(Context& ctx) {
  for (auto& [number, entry] : entries_) {
    if (entry.finished || entry.held || !entry.reading()) continue;
    if (entry.kv_start < 0 && !place(entry)) return;  // those that came later wait too
    const int64_t count = std::min(kPrefillRows, entry.prompt_length() - entry.kv_length);
    Batch batch;
    const auto first = entry.request.prompt.begin() + entry.kv_length;
    batch.tokens.assign(first, first + count);
    Entry* one = &entry;
    run(ctx, batch, std::span(&one, 1), std::span(&count, 1));
    if (entry.request.on_prompt_logprobs) tell_prompt(ctx, entry, entry.kv_length - count, count);
    if (entry.reading()) return;
    if (entry.limit <= 0) entry.finished = true;
    else if (entry.search) advance_beams(ctx, entry, count - 1, 1);
    else add_tokens(ctx, std::span(&one, 1), count - 1);
    return;
  }
}

void Engine::decode(Context& ctx, std::span<Entry*> group) {
  Batch batch;
  for (const Entry* entry : group) batch.tokens.push_back(entry->seen.back());
  const std::vector<int64_t> lengths(group.size(), 1);
  run(ctx, batch, group, lengths);
  add_tokens(ctx, group, 0);
}

// A row of each beam; all of them are as long.
void Engine::decode_beams(Context& ctx, Entry& entry) {
  Pass pass{&activations_, &cache_, {}, &scratch_, false};
  Batch batch;
  batch.tokens = entry.search->last_tokens();
  for (int64_t beam = 0; beam < entry.beams; ++beam) {
    batch.positions.push_back(static_cast<int32_t>(entry.kv_length));
    batch.sequences.push_back({beam, 1, entry.kv_start + beam * entry.room(), entry.kv_length + 1});
  }
  if (entry.request.adapter) {
    batch.adapter_rows = {{0, entry.beams, 0}};
    pass.adapters = {entry.request.adapter};
  }
  decoder_forward(ctx, model_, batch, pass);
  ++entry.kv_length;
  advance_beams(ctx, entry, 0, entry.beams);
}

// A step of the search from these rows of the last batch; its answer, once it is found.
void Engine::advance_beams(Context& ctx, Entry& entry, int64_t first_row, int64_t rows) {
  const int64_t V = model_.config.vocab_size, before = rows == 1 ? 0 : entry.prompt_length();
  const AdapterSet* set = entry.request.adapter;
  entry.finished = true;  // should memory run out here
  head_logits(ctx, model_, Tensor(logits_.data(), Dtype::F32, {rows, V}), activations_.hidden.row_range(first_row, rows),
              changes_head(set) ? set : nullptr, scratch_);
  const std::vector<int64_t> parents = entry.search->advance(std::span(logits_).first(static_cast<size_t>(rows * V)), entry.random);
  const bool goes_on = !entry.request.keep_going || entry.request.keep_going();
  if (!entry.search->finished() && goes_on) {
    follow_parents(entry, parents, before);
    entry.finished = false;
    return;
  }
  for (const int32_t id : entry.search->answer()) {
    entry.seen.push_back(id);
    if (entry.request.on_token && !entry.request.on_token(id)) break;
  }
}

// Rows of the cache from first_row on: each beam gets those of the one that it goes on from. Before that all have the same.
void Engine::follow_parents(const Entry& entry, std::span<const int64_t> parents, int64_t first_row) {
  const int64_t count = entry.kv_length - first_row;
  const auto rows_of = [&](const Tensor& all, int64_t beam) {
    return all.row_range(entry.kv_start + beam * entry.room() + first_row, count);
  };
  std::vector<char> copies;
  for (const Tensor& all : cache_.rows()) {
    const size_t bytes = rows_of(all, 0).bytes();
    copies.resize(bytes * parents.size());
    for (size_t beam = 0; beam < parents.size(); ++beam)
      if (parents[beam] != static_cast<int64_t>(beam)) std::memcpy(copies.data() + beam * bytes, rows_of(all, parents[beam]).data, bytes);
    for (size_t beam = 0; beam < parents.size(); ++beam)
      if (parents[beam] != static_cast<int64_t>(beam))
        std::memcpy(rows_of(all, static_cast<int64_t>(beam)).data, copies.data() + beam * bytes, bytes);
  }
}

bool Engine::step(Context& ctx) {
  std::vector<Entry*> running, searching;  // before a prompt is read, which gives that sequence its token of this step
  for (auto& [number, entry] : entries_)
    if (!entry.finished && !entry.held && !entry.reading()) (entry.search ? searching : running).push_back(&entry);
  std::stable_sort(running.begin(), running.end(),
                   [](const Entry* a, const Entry* b) { return std::less<>()(a->request.adapter, b->request.adapter); });
  read_prompts(ctx);
  for (size_t first = 0; first < running.size(); first += kDecodeRows)
    decode(ctx, std::span(running).subspan(first, std::min<size_t>(kDecodeRows, running.size() - first)));
  for (Entry* entry : searching) decode_beams(ctx, *entry);
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& e) { return !e.second.finished && !e.second.held; });
}

std::vector<int32_t> Engine::generate(Context& ctx, std::span<const int32_t> prompt, const AdapterSet* adapter,
                                      const GenerateOptions& options, const std::function<bool(int32_t)>& on_token,
                                      const std::function<bool()>& keep_going) {
  const int64_t request = submit({{prompt.begin(), prompt.end()}, adapter, options, on_token, keep_going});
  try {
    while (!done(request)) step(ctx);
  } catch (...) {
    take(request);
    throw;
  }
  return take(request);
}

}  // namespace loraine
