// See mix.h.
#include "loraine/data/rows/mix.h"

#include <fmt/format.h>

#include <iterator>
#include <numeric>
#include <utility>

#include "loraine/data/rows/row_reader.h"

namespace loraine {
namespace {

void check_stage(const DatasetInfo& info, DataStage stage) {
  const bool pairs = stage == DataStage::pairs;
  if (info.recognise || info.ranking == pairs) return;
  const char* of_pairs = "stages rm and dpo compare two answers";
  throw Error(ErrorKind::usage,
              pairs ? fmt::format("data set `{}` is no ranking set, and {}", info.name, of_pairs)
                    : fmt::format("data set `{}` is a ranking set; {}, and this stage trains on single ones", info.name, of_pairs),
              pairs ? "set ranking: true in dataset_info.json, and name the columns chosen and rejected"
                    : "set stage: dpo or rm, or choose another set");
}

constexpr size_t kDigested = 4096, kDigestedBytes = size_t{4} << 20;  // rows at a time, and their text

void read_into(MixedRows& set, const DatasetInfo& info, std::optional<int64_t> limit, std::string& layout, const Digest& digest) {
  if (!digest) {
    set.rows = read_rows(info, limit, &layout);
    return;
  }
  if (info.recognise)
    each_row(
        info, 1, [](Row&&) { return true; }, &layout);
  RowReader reader(info);
  reader.start(0, limit.value_or(-1));
  std::vector<Row> rows;
  size_t bytes = 0;
  for (std::optional<Row> row = reader.next();; row = reader.next()) {
    if (row) {
      bytes += row->bytes();
      rows.push_back(std::move(*row));
      if (rows.size() < kDigested && bytes < kDigestedBytes) continue;
    }
    bytes = 0;
    digest(std::exchange(rows, {}), set.made, info.num_samples || info.weight);
    if (!row) return;
  }
}

bool has_repeats(const std::vector<int64_t>& order, size_t rows) {
  std::vector<bool> seen(rows);
  for (int64_t i : order) {
    if (seen[static_cast<size_t>(i)]) return true;
    seen[static_cast<size_t>(i)] = true;
  }
  return false;
}

// The rows of one set, and which of them count, in their order.
MixedRows read_set(const DataOptions& options, const std::string& name, LegacySampler& sampler, std::vector<std::string>& recognised,
                   const Digest& digest) {
  const DatasetInfo info = find_set(options, name);
  std::string layout;
  MixedRows set;
  const bool drawn = info.num_samples || info.weight;
  read_into(set, info, drawn ? std::nullopt : options.max_samples, layout, digest);
  if (!layout.empty()) recognised.push_back(layout);
  if (drawn) {
    const auto rows = static_cast<int64_t>(set.size());
    const double weighted = static_cast<double>(info.num_samples.value_or(rows)) * info.weight.value_or(1);
    if (weighted < 1 || weighted > 1e12)
      throw Error(ErrorKind::bad_data, fmt::format("data set `{}`: its weight {} leaves {} of {} rows", info.name, *info.weight,
                                                   weighted < 1 ? "none" : "too many", info.num_samples.value_or(rows)));
    set.order = sampler.draw(rows, static_cast<int64_t>(weighted));
  } else {
    set.order.resize(set.size());
    std::iota(set.order.begin(), set.order.end(), int64_t{0});
  }
  if (options.max_samples && static_cast<int64_t>(set.order.size()) > *options.max_samples)
    set.order.resize(static_cast<size_t>(*options.max_samples));
  return set;
}

}  // namespace

DatasetInfo find_set(const DataOptions& options, const std::string& name) {
  DatasetInfo info = find_dataset(options.dataset_dir, name, options.find_repository);
  info.stage = options.stage;
  if (info.stage == DataStage::decisions && info.plain) info.recognise = true;
  check_stage(info, options.stage);
  return info;
}

void check_mixing(const DataOptions& options) {
  const auto refuse = [](const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); };
  const size_t probs = options.interleave_probs.size();
  if (probs == 0) return;
  if (options.mixing == Mixing::concat)
    refuse("interleave_probs says how sets take turns, and mix_strategy is concat",
           "set mix_strategy: interleave_under, interleave_over or interleave_once, or leave interleave_probs out");
  const auto check_sets = [&](const char* key, size_t sets) {
    if (sets > 0 && sets != probs)
      refuse(fmt::format("interleave_probs: {} numbers for {} sets of {}", probs, sets, key), "give one for each set");
  };
  check_sets("dataset", options.datasets.size());
  check_sets("eval_dataset", options.eval_datasets.size());
}

MixedRows read_sets(const DataOptions& options, const std::vector<std::string>& names, LegacySampler& sampler,
                    std::vector<std::string>& recognised, const Digest& digest) {
  MixedRows all;
  std::vector<std::vector<int64_t>> orders;
  std::vector<int64_t> sizes;
  for (const std::string& name : names) {
    MixedRows set = read_set(options, name, sampler, recognised, digest);
    const auto first = static_cast<int64_t>(all.size());
    for (int64_t& row : set.order) row += first;
    if (all.size() == 0) {
      all.rows = std::move(set.rows);
      all.made = std::move(set.made);
    } else {
      std::move(set.rows.begin(), set.rows.end(), std::back_inserter(all.rows));
      std::move(set.made.begin(), set.made.end(), std::back_inserter(all.made));
    }
    sizes.push_back(static_cast<int64_t>(set.order.size()));
    orders.push_back(std::move(set.order));
  }
  if (orders.size() == 1) {
    all.order = std::move(orders.front());
  } else if (!orders.empty()) {
    for (const auto& [set, row] : interleave_rows(sizes, options.interleave_probs, options.mixing, options.seed))
      all.order.push_back(orders[static_cast<size_t>(set)][static_cast<size_t>(row)]);
  }
  all.repeats = has_repeats(all.order, all.size());
  return all;
}

}  // namespace loraine
