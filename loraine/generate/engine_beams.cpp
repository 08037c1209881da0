// Beam searches in an engine: a row of each beam in every step, and what each beam takes over from the one that it goes on from.
#include <cstring>
#include <numeric>

#include "loraine/adapters/embedding_lora.h"
#include "loraine/generate/beam_search.h"
#include "loraine/generate/engine.h"
#include "loraine/model/gpu/gpu_answers.h"

namespace loraine {
namespace {

// `rows` rows of `all` for each beam that another one takes over: copied out for all beams before any is written. for_runs(beam, use):
// where the beam's rows lie, as use(row of all, rows before, rows).
template <class ForRuns>
void move_to_children(const Tensor& all, std::span<const int64_t> parents, int64_t rows, const ForRuns& for_runs) {
  const size_t row_bytes = all.row_range(0, 1).bytes(), bytes = row_bytes * static_cast<size_t>(rows);
  std::vector<char> copies(bytes * parents.size());
  for (const bool out : {true, false})
    for (size_t beam = 0; beam < parents.size(); ++beam) {
      if (parents[beam] == static_cast<int64_t>(beam)) continue;
      for_runs(out ? parents[beam] : static_cast<int64_t>(beam), [&](int64_t row, int64_t before, int64_t count) {
        char *copy = copies.data() + beam * bytes + static_cast<size_t>(before) * row_bytes,
             *cache = static_cast<char*>(all.row_range(row, count).data);
        std::memcpy(out ? copy : cache, out ? cache : copy, static_cast<size_t>(count) * row_bytes);
      });
    }
}

}  // namespace

// A row of each beam; all of them are as long.
void Engine::decode_beams(Context& ctx, Entry& entry) {
  Pass pass{&activations_, &cache_, {}, &scratch_, false};
  Batch batch;
  batch.tokens = entry.search->last_tokens();
  for (int64_t beam = 0; beam < entry.beams; ++beam) {
    batch.positions.push_back(static_cast<int32_t>(entry.kv_length));
    batch.sequences.push_back({beam, 1, 0, entry.kv_length + 1, entry.slot_of(beam), entry.pages_of(beam)});
  }
  if (entry.request.adapter && entry.kv_length >= entry.invoked_from) {
    batch.adapter_rows = {{0, entry.beams, 0}};
    pass.adapters = {entry.request.adapter};
  }
  forward(ctx, batch, pass);
  ++entry.kv_length;
  advance_beams(ctx, entry, 0, entry.beams);
}

// A step of the search from these rows of the last batch; its answer, once it is found.
void Engine::advance_beams(Context& ctx, Entry& entry, int64_t first_row, int64_t rows) {
  const int64_t V = model_.config.vocab_size, before = rows == 1 ? 0 : entry.prompt_length();
  const AdapterSet* set = entry.request.adapter;
  entry.finished = true;  // should memory run out here
  std::vector<int64_t> from(static_cast<size_t>(rows));
  std::iota(from.begin(), from.end(), first_row);
  logits_of(ctx, Tensor(logits_.data(), Dtype::F32, {rows, V}), from, set);
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

// Each beam gets what the one that it goes on from has of the cache: rows from first_row on (before that all have the same), and the
// states.
void Engine::follow_parents(const Entry& entry, std::span<const int64_t> parents, int64_t first_row) {
  const auto for_runs = [&](int64_t beam, const auto& use) {  // use(row of the cache, rows before this run, rows of it)
    const Sequence sequence{.pages = entry.pages_of(beam)};
    for (int64_t row = first_row, run = 0; row < entry.kv_length; row += run) {
      run = sequence.kv_run(row, entry.kv_length - row);
      use(sequence.kv_row(row), row - first_row, run);
    }
  };
  if (gpu_) {
    std::vector<int64_t> to, from;
    for (size_t beam = 0; beam < parents.size(); ++beam) {
      if (parents[beam] == static_cast<int64_t>(beam)) continue;
      const Sequence own{.pages = entry.pages_of(static_cast<int64_t>(beam))}, parent{.pages = entry.pages_of(parents[beam])};
      for (int64_t row = first_row; row < entry.kv_length; ++row) to.push_back(own.kv_row(row)), from.push_back(parent.kv_row(row));
    }
    return gpu_->move_rows(to, from);
  }
  const auto for_state = [&](int64_t beam, const auto& use) { use(entry.slot_of(beam), 0, 1); };
  for (const Tensor& all : cache_.rows()) move_to_children(all, parents, entry.kv_length - first_row, for_runs);
  for (const Tensor& all : states()) move_to_children(all, parents, 1, for_state);
}

}  // namespace loraine
