// How prompts are read: in whole pieces of several prompts at once, then their ends, then the first token of each.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <numeric>

#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/model/gpu/gpu_answers.h"

namespace loraine {

// What rows [first_row, first_row + rows) of the last batch, the last ones of the prompt that were read, end with, and the ids that they
// foretell. Once, also where they are computed again.
void Engine::tell_prompt(Context& ctx, Entry& entry, int64_t rows, int64_t first_row) {
  const int64_t first = std::max(entry.kv_length - rows, entry.told);
  first_row += first - (entry.kv_length - rows);
  rows = entry.kv_length - first;
  if (rows <= 0) return;
  entry.told = entry.kv_length;
  if (entry.request.on_prompt_hidden) {
    const int64_t width = model_.config.hidden_size;
    std::vector<float> states(static_cast<size_t>(rows * width));
    if (gpu_) {
      std::vector<int64_t> places(static_cast<size_t>(rows));
      std::iota(places.begin(), places.end(), first_row);
      gpu_->decoder().states(Tensor(states.data(), Dtype::F32, {rows, width}), places);
    } else {
      for (int64_t row = 0; row < rows; ++row) widen_row(states.data() + row * width, activations_.hidden.row_range(first_row + row, 1));
    }
    for (int64_t row = 0; row < rows; ++row) entry.request.on_prompt_hidden({states.data() + row * width, static_cast<size_t>(width)});
  }
  if (!entry.request.on_prompt_logprobs) return;
  const int64_t V = model_.config.vocab_size, most = static_cast<int64_t>(logits_.size()) / V;
  const int64_t count = std::min(rows, entry.prompt_length() - 1 - first);
  std::vector<TokenLogprobs> told(static_cast<size_t>(std::min(most, std::max<int64_t>(count, 0))));
  for (int64_t row = 0; row < count; row += most) {
    const int64_t n = std::min(most, count - row);
    std::vector<int64_t> from(static_cast<size_t>(n));
    std::iota(from.begin(), from.end(), first_row + row);
    logits_of(ctx, Tensor(logits_.data(), Dtype::F32, {n, V}), from, entry.request.adapter);
    parallel_for(n, [&](int64_t i) {
      told[static_cast<size_t>(i)] =
          token_logprobs(std::span(logits_).subspan(static_cast<size_t>(i * V), static_cast<size_t>(V)),
                         entry.request.prompt[static_cast<size_t>(first + row + i + 1)], entry.request.options.prompt_logprobs);
    });
    for (int64_t i = 0; i < n; ++i) entry.request.on_prompt_logprobs(told[static_cast<size_t>(i)]);
  }
}

// Rows of prompts in this step: a tenth of a second's while others wait for their tokens.
int64_t Engine::prompt_budget() const {
  constexpr double kSeconds = 0.1;
  const auto decodes = [](const auto& e) { return e.second.runs() && !e.second.reading(); };
  if (seconds_per_row_ == 0 || std::none_of(entries_.begin(), entries_.end(), decodes)) return kPrefillRows;
  return std::clamp(static_cast<int64_t>(kSeconds / seconds_per_row_) / kKvPage * kKvPage, kKvPage, kPrefillRows);
}

// Prompts are read in whole pieces of piece_rows_, several of several prompts at once, and then an end that is shorter. Those that began
// first come first.
void Engine::read_prompts(Context& ctx) {
  std::vector<Entry*> reading;
  for (auto& [number, entry] : entries_)
    if (entry.runs() && entry.reading()) reading.push_back(&entry);
  if (reading.empty()) return;
  std::ranges::sort(reading, {}, &Entry::began);
  int64_t budget = prompt_budget();
  budget -= read_whole_pieces(ctx, reading, budget);
  if (budget > 0) read_ends(ctx, reading, budget);
}

// A batch of whole pieces; gives the rows of it.
int64_t Engine::read_whole_pieces(Context& ctx, std::span<Entry* const> reading, int64_t budget) {
  std::vector<Piece> pieces;
  int64_t rows = 0;
  for (Entry* entry : reading) {
    const int64_t left = entry->prompt_length() / piece_rows_ * piece_rows_ - entry->kv_length;
    if (left <= 0 || !entry->placed()) continue;
    const bool by_itself = reads_by_itself(*entry);
    if (by_itself && !pieces.empty()) continue;
    const int64_t count = alone_ ? piece_rows_ : std::min(left, (std::min(budget, rows_) - rows) / kKvPage * kKvPage);
    if (count <= 0) break;
    if (!grow(*entry, count)) break;
    pieces.push_back({entry, count});
    rows += count;
    if (by_itself) break;
  }
  std::erase_if(pieces, [&](const Piece& piece) { return !piece.entry->placed(); });
  if (pieces.empty()) return 0;
  std::ranges::stable_sort(pieces, std::less<>(), [](const Piece& piece) { return piece.entry->request.adapter; });
  const auto start = std::chrono::steady_clock::now();
  run(ctx, pieces);
  if (gpu_) gpu_->synchronise();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(rows);
  seconds_per_row_ = seconds_per_row_ == 0 ? seconds : 0.7 * seconds_per_row_ + 0.3 * seconds;
  prompts_read(ctx, pieces);
  return rows;
}

// The ends of prompts: short ones together, since a few rows do not feel each other, others by themselves.
int64_t Engine::read_ends(Context& ctx, std::span<Entry* const> reading, int64_t budget) {
  int64_t rows = 0;
  std::vector<Piece> pieces;
  int64_t together = 0;
  const auto flush = [&] {
    std::erase_if(pieces, [&](const Piece& piece) { return !piece.entry->placed(); });
    if (pieces.empty()) return;
    std::ranges::stable_sort(pieces, std::less<>(), [](const Piece& piece) { return piece.entry->request.adapter; });
    run(ctx, pieces);
    const std::vector<Piece> done = std::move(pieces);
    pieces.clear();
    together = 0;
    prompts_read(ctx, done);
  };
  for (Entry* entry : reading) {
    if (!entry->placed() || !entry->reading() || entry->kv_length < entry->prompt_length() / piece_rows_ * piece_rows_) continue;
    const int64_t count = entry->prompt_length() - entry->kv_length;
    if (rows > 0 && rows + count > budget) break;
    const bool by_itself = reads_by_itself(*entry) || count > kFewRows;
    if (by_itself || together + count > kFewRows) flush();
    if (!entry->placed() || !grow(*entry, count)) break;
    pieces.push_back({entry, count});
    rows += count, together += count;
    if (by_itself) flush();
  }
  flush();
  return rows;
}

// After a batch that read the pieces: those whose prompts are read get their first token, and so do those that share one.
void Engine::prompts_read(Context& ctx, std::span<const Piece> pieces) {
  std::vector<std::pair<Entry*, int64_t>> first_tokens;  // and the row that gives it
  std::vector<std::pair<Entry*, int64_t>> searches;
  int64_t row = 0;
  for (const auto& [entry, rows] : pieces) {
    row += rows;
    counts_.prompt_rows += rows;
    keep_prefix(*entry);
    if (entry->request.tells_prompt() && entry->kv_length > entry->told) tell_prompt(ctx, *entry, rows, row - rows);
    if (entry->reading() || entry->replaying()) continue;
    if (entry->limit <= 0) {
      entry->finished = true;
      continue;
    }
    if (static_cast<int64_t>(entry->seen.size()) > entry->prompt_length()) continue;  // computed once more
    if (entry->search) {
      searches.emplace_back(entry, row - 1);
      continue;
    }
    std::vector<Entry*> sampled = {entry};
    fork(*entry, sampled);
    for (Entry* one : sampled) first_tokens.emplace_back(one, row - 1);
  }
  std::exception_ptr failure;
  const auto guarded = [&](const auto& work) {
    try {
      work();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  };
  for (const auto& [entry, at] : searches) guarded([&, one = entry, from = at] { advance_beams(ctx, *one, from, 1); });
  // Some at a time, as many as there is room for logits; on the CPU the rows are brought together.
  const size_t bytes = gpu_ ? 0 : activations_.hidden.row_range(0, 1).bytes(),
               most = logits_.size() / static_cast<size_t>(model_.config.vocab_size);
  std::vector<char> kept_rows(bytes * first_tokens.size());
  for (size_t i = 0; bytes > 0 && i < first_tokens.size(); ++i)
    std::memcpy(kept_rows.data() + i * bytes, activations_.hidden.row_range(first_tokens[i].second, 1).data, bytes);
  for (size_t first = 0; first < first_tokens.size(); first += most) {
    std::vector<Entry*> group;
    std::vector<int64_t> from;
    for (size_t i = first; i < std::min(first + most, first_tokens.size()); ++i) {
      from.push_back(gpu_ ? first_tokens[i].second : static_cast<int64_t>(i - first));
      if (bytes > 0) std::memcpy(activations_.hidden.row_range(from.back(), 1).data, kept_rows.data() + i * bytes, bytes);
      group.push_back(first_tokens[i].first);
    }
    guarded([&] { add_tokens(ctx, group, from); });
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace loraine
