// The steps of an engine, in which the tokens of several sequences become batches. engine_memory.cpp says whose turn it is and where they
// lie, engine_prompts.cpp reads their prompts, engine_beams.cpp runs beam searches.
#include "loraine/generate/engine.h"

#include <algorithm>
#include <chrono>
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
#include "loraine/kernels/products/row_dots.h"
#include "loraine/model/gpu/gpu_answers.h"

namespace loraine {
namespace {

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

int64_t cache_pages(int64_t capacity, int64_t sequences) {
  const int64_t pages = (capacity + kKvPage - 1) / kKvPage + sequences - 1;  // every sequence has one that is not full
  return pages * kKvPage == sequences ? pages + 1 : pages;                   // rows and states are told apart by how many there are
}

size_t logits_of_step(const Model& model, int64_t sequences) {
  return static_cast<size_t>(std::min(sequences, kDecodeRows) * model.config.vocab_size);
}

constexpr int64_t kBatchSequences = std::max(kPrefillRows / kKvPage, kFewRows);  // most in a batch

std::vector<int64_t> rows_from(int64_t first, int64_t count) {
  std::vector<int64_t> rows(static_cast<size_t>(count));
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

}  // namespace

size_t engine_gpu_bytes(const GpuBase& gpu, int64_t capacity, int64_t max_rank_columns, int64_t sequences) {
  sequences = std::max<int64_t>(sequences, 1);
  return GpuAnswers::bytes(gpu, rows_of_batches(capacity, sequences), std::max<int64_t>(max_rank_columns, 1), kDecodeRows,
                           cache_pages(capacity, sequences), kBatchSequences);
}

size_t engine_bytes(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences) {
  const int64_t rows = rows_of_batches(capacity, sequences), columns = std::max<int64_t>(max_rank_columns, 1);
  return measured(model, columns, rows) + engine_scratch_bytes(model, columns, rows) +
         kv_cache_bytes(model, cache_pages(capacity, std::max<int64_t>(sequences, 1)) * kKvPage, std::max<int64_t>(sequences, 1)) +
         logits_of_step(model, sequences) * sizeof(float);
}

int64_t seats_for(const Model& model, int64_t requests, int64_t beams) {
  const bool states = beams > 1 && kv_cache_bytes(model, kKvPage, 2) > kv_cache_bytes(model, kKvPage, 1);
  return states ? requests * beams : requests;
}

int64_t rank_columns(const AdapterSet& set) {
  int64_t widest = 1;
  for (const auto& site : set.sites)
    if (site) widest = std::max(widest, site->saved_width() + site->scratch_width());
  for (const auto& experts : set.experts)
    if (experts) widest = std::max(widest, experts->shape().r);
  return set.embedding ? std::max(widest, set.embedding->r()) : widest;
}

namespace {
// Experts are given the rows of the whole batch, and products with INT8 leave columns out for all of it. Those with packed blocks do not.
bool rows_feel_each_other(const Model& model) {
  return !model.experts().empty() || std::ranges::any_of(model.sites(), [](const Weight* site) {
    return site->integer_products && site->parts[0].weight.dtype == Dtype::INT8;
  });
}

}  // namespace

Engine::Engine(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences, GpuBase* gpu)
    : model_(model),
      capacity_(capacity),
      sequences_(std::max<int64_t>(sequences, 1)),
      rows_(rows_of_batches(capacity, sequences_)),
      alone_(rows_feel_each_other(model)),
      cache_(gpu ? KvCache() : KvCache(model, cache_pages(capacity, sequences_) * kKvPage, sequences_)),
      pages_(cache_pages(capacity, sequences_)),
      prefixes_(pages_),
      queue_(kPrefillRows),
      logits_(logits_of_step(model, sequences_)) {
  piece_rows_ = alone_ ? kPrefillRows : kKvPage;
  states_ = cache_.has_states();
  if (gpu) {
    check_gpu_room(engine_gpu_bytes(*gpu, capacity, max_rank_columns, sequences_), "fewer rows of keys and values need less");
    gpu_ = std::make_unique<GpuAnswers>(*gpu, rows_, std::max<int64_t>(max_rank_columns, 1), kDecodeRows, cache_pages(capacity, sequences_),
                                        kBatchSequences);
  }
  plan(max_rank_columns);
}

Engine::~Engine() = default;

void Engine::plan(int64_t columns) {
  rank_columns_ = std::max<int64_t>(columns, 1);
  if (gpu_) return gpu_->reserve_rank_columns(rank_columns_);
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
  if (states_ && beams > sequences_)
    throw Error(ErrorKind::internal, "num_beams is " + std::to_string(beams) + ", and the engine is planned for the states of " +
                                         std::to_string(sequences_) + " sequences");
  if (beams > 1 && request.mask)
    throw Error(ErrorKind::unsupported, "num_beams is not built together with a grammar", "leave num_beams out");
  const int64_t most = beams == 1 ? capacity_ : std::min(capacity_ / beams, pages_.count() / beams * kKvPage);
  if (n >= most)
    throw Error(ErrorKind::usage, "the conversation has " + std::to_string(n) + " tokens, the cache holds " + std::to_string(most),
                "type clear");
  if (request.adapter && rank_columns(*request.adapter) > rank_columns_)
    throw Error(ErrorKind::internal, "adapter '" + request.adapter->name + "' has " + std::to_string(rank_columns(*request.adapter)) +
                                         " rank columns, the engine is planned for " + std::to_string(rank_columns_));
  Entry entry;
  entry.number = next_;
  entry.seen = request.prompt;
  entry.random.seed(request.options.seed);
  entry.limit = std::min(request.options.max_new_tokens, most - n);
  if (request.adapter) entry.invoked_from = invoked_from(request.prompt, request.adapter->invocation);
  if (entry.invoked_from == n) entry.invoked_from = INT64_MAX;  // nowhere in the prompt: the answer is the base's
  entry.finished = entry.limit <= 0 && !request.tells_prompt();
  entry.beams = beams;
  if (beams > 1) {
    entry.search = std::make_shared<BeamSearch>(request.prompt, request.options, entry.limit);
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(beams * model_.config.vocab_size)));
  }
  entry.request = std::move(request);
  Entry& here = entries_.emplace(next_, std::move(entry)).first->second;
  if (!here.finished) join(here);
  return next_++;
}

void Engine::hold(int64_t request, bool held) {
  Entry& entry = entries_.at(request);
  if (entry.held == held || entry.finished) return;
  entry.held = held;
  if (entry.placed() || entry.leader != 0) return;
  if (held) queue_.remove(request);
  else wait(entry);
}

bool Engine::done(int64_t request) const { return entries_.at(request).finished; }
bool Engine::started(int64_t request) const { return entries_.at(request).begun; }
int64_t Engine::reused(int64_t request) const { return entries_.at(request).reused; }

std::vector<int32_t> Engine::take(int64_t request) {
  const auto at = entries_.find(request);
  if (at == entries_.end()) throw Error(ErrorKind::internal, "take: there is no request " + std::to_string(request));
  leave(at->second);
  const Entry& entry = at->second;
  std::vector<int32_t> answer(entry.seen.begin() + entry.prompt_length(), entry.seen.end());
  const AdapterSet* set = entry.request.adapter;
  entries_.erase(at);
  if (gpu_ && std::ranges::none_of(entries_, [&](const auto& e) { return e.second.request.adapter == set; })) gpu_->let_go(set);
  return answer;
}

// Runs the next rows of the pieces' entries, one after the other, entries of an adapter side by side. by_row: each row as a sequence of
// one, so that it has the bits of a decoding step.
void Engine::run(Context& ctx, std::span<const Piece> pieces, bool by_row) {
  Pass pass{&activations_, &cache_, {}, &scratch_, false};
  Batch batch;
  for (const auto& [entry, rows] : pieces) {
    const int64_t first = batch.rows();
    for (int64_t t = 0; t < rows; ++t) {
      batch.tokens.push_back(entry->seen[static_cast<size_t>(entry->kv_length + t)]);
      batch.positions.push_back(static_cast<int32_t>(entry->kv_length + t));
      if (by_row) batch.sequences.push_back({first + t, 1, 0, entry->kv_length + t + 1, entry->slots.front(), entry->pages.data()});
    }
    if (!by_row) batch.sequences.push_back({first, rows, 0, entry->kv_length + rows, entry->slots.front(), entry->pages.data()});
    const int64_t before = entry->request.adapter ? std::clamp<int64_t>(entry->invoked_from - entry->kv_length, 0, rows) : rows;
    if (before == rows) continue;
    if (pass.adapters.empty() || pass.adapters.back() != entry->request.adapter ||
        batch.adapter_rows.back().start + batch.adapter_rows.back().length != first + before) {
      batch.adapter_rows.push_back({first + before, 0, static_cast<int>(pass.adapters.size())});
      pass.adapters.push_back(entry->request.adapter);
    }
    batch.adapter_rows.back().length += rows - before;
  }
  Context by_pieces = ctx;
  by_pieces.product_rows = alone_ ? 0 : kKvPage;
  forward(by_pieces, batch, pass);
  for (const auto& [entry, rows] : pieces) entry->kv_length += rows;
}

void Engine::forward(Context& ctx, const Batch& batch, Pass& pass) {
  if (gpu_) gpu_->forward(batch, pass.adapters);
  else decoder_forward(ctx, model_, batch, pass);
}

// Of rows of the last batch, which on the CPU lie one after the other.
void Engine::logits_of(Context& ctx, const Tensor& logits, std::span<const int64_t> rows, const AdapterSet* set) {
  if (gpu_) return gpu_->logits(logits, rows);
  head_logits(ctx, model_, logits, activations_.hidden.row_range(rows.front(), static_cast<int64_t>(rows.size())),
              changes_head(set) ? set : nullptr, scratch_);
}

// The next token of each entry, from rows of the last batch. Every entry gets its own before an on_token's exception goes on.
void Engine::add_tokens(Context& ctx, std::span<Entry* const> entries, std::span<const int64_t> rows) {
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
    logits_of(ctx, Tensor(logits_.data() + first * V, Dtype::F32, {end - first, V}),
              rows.subspan(static_cast<size_t>(first), static_cast<size_t>(end - first)), head_of(first));
  }
  parallel_for(n, [&](int64_t i) {
    Entry& entry = *entries[static_cast<size_t>(i)];
    const std::span<float> logits = std::span(logits_).subspan(static_cast<size_t>(i * V), static_cast<size_t>(V));
    if (entry.request.on_logits) entry.request.on_logits(logits);
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

void Engine::deliver(Entry& entry, int32_t id) {
  entry.seen.push_back(id);
  const GenerateOptions& o = entry.request.options;
  const bool last =
      static_cast<int64_t>(entry.seen.size()) == entry.room() || std::find(o.stop_ids.begin(), o.stop_ids.end(), id) != o.stop_ids.end();
  const bool goes_on = !entry.request.on_token || entry.request.on_token(id);
  entry.finished = last || !goes_on;
}

// The tokens of an answer that lost its pages, up to the one that runs next.
void Engine::replay(Context& ctx) {
  for (auto& [number, entry] : entries_) {
    if (!entry.runs() || !entry.replaying()) continue;
    const int64_t most = states_ ? 1 : kFewRows;
    for (int64_t done = 0; done < kFewRows && entry.replaying();) {
      const Piece piece{&entry, std::min(most, entry.computed() - entry.kv_length)};
      if (!grow(entry, piece.rows)) break;
      run(ctx, std::span(&piece, 1), true);
      done += piece.rows;
    }
  }
}

void Engine::decode(Context& ctx, std::span<Entry*> group) {
  std::vector<Piece> pieces;
  for (Entry* entry : group) pieces.push_back({entry, 1});
  run(ctx, pieces);
  add_tokens(ctx, group, rows_from(0, static_cast<int64_t>(group.size())));
}

bool Engine::step(Context& ctx) {
  for (auto& [number, entry] : entries_)
    if (entry.finished) leave(entry);
  admit();
  std::vector<Entry*> running, searching;  // before a prompt is read, which gives that sequence its token of this step
  for (auto& [number, entry] : entries_)
    if (entry.runs() && !entry.reading() && !entry.replaying()) (entry.search ? searching : running).push_back(&entry);
  std::ranges::sort(running, {}, &Entry::began);
  std::erase_if(running, [&](Entry* entry) { return !entry->placed() || !grow(*entry, 1); });
  replay(ctx);
  read_prompts(ctx);
  std::erase_if(running, [](const Entry* entry) { return !entry->placed(); });  // whose pages others needed
  std::ranges::stable_sort(running, std::less<>(), [](const Entry* entry) { return entry->request.adapter; });
  for (size_t first = 0; first < running.size(); first += kDecodeRows)
    decode(ctx, std::span(running).subspan(first, std::min<size_t>(kDecodeRows, running.size() - first)));
  for (Entry* entry : searching) decode_beams(ctx, *entry);
  return std::any_of(entries_.begin(), entries_.end(), [&](const auto& e) {
    const Entry& entry = e.second;
    return !entry.finished && !entry.held && !(entry.leader != 0 && entries_.at(entry.leader).held);
  });
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
