// The story of the data: names to rows, mixing, split, encoding, checks. Called through dataset.h.
#include "loraine/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/count_text.h"
#include "loraine/core/error.h"
#include "loraine/data/encode/make_examples.h"
#include "loraine/data/encode/row_encoder.h"
#include "loraine/data/examples/prepared.h"
#include "loraine/data/rows/mix.h"

namespace loraine {
namespace {

void check_usable(const Dataset& set, const std::string& what, const char* use) {
  if (set.size() > 0) return;
  throw Error(ErrorKind::bad_data,
              fmt::format("{}: none of {} rows can be {}{}", what, set.num_rows, use,
                          set.dropped_rows.empty() ? "" : "; the first is " + set.dropped_rows.front()),
              "correct the rows");
}

// More rows that cannot be used than the user allows. All of them are counted before, so that one run tells what there is to correct.
void check_dropped(int64_t rows, int64_t dropped, const std::vector<std::string>& first, const DataOptions& options) {
  if (dropped <= options.skip_bad_rows) return;
  const std::string allowed = options.skip_bad_rows > 0 ? fmt::format(" and skip_bad_rows allows {}", options.skip_bad_rows) : "";
  const std::string message = rows == 1 ? first.at(0)
                                        : fmt::format("{} of {} cannot be used{}{}{}", count_text(dropped), rows_text(rows), allowed,
                                                      dropped == 1 ? ": " : "; the first is ", first.at(0));
  throw Error(ErrorKind::bad_data, message,
              dropped == rows ? "correct the data, or what dataset_info.json says of it"
                              : fmt::format("correct the data, or set skip_bad_rows: {} to go on without", dropped));
}

// A set of which nothing would be learnt: its labels are all masked (the first token of a sample is never predicted).
void check_trained(const Dataset& set, const std::string& what, const DataOptions& options) {
  if (set.num_untrained < set.num_samples || set.size() == 0) return;
  const int64_t enough = sufficient_cutoff(set, 0), most = sufficient_cutoff(set, 0.05);
  throw Error(ErrorKind::usage,
              fmt::format("{}: the labels of all {} samples are masked, so nothing would be learnt (cutoff_len {}, {} samples cut)", what,
                          set.num_samples, options.cutoff_len, set.num_truncated),
              set.num_truncated == 0 || enough == 0
                  ? "check that the answers are where dataset_info.json says"
                  : fmt::format("set cutoff_len: {}, which cuts none{}", enough,
                                most < enough ? fmt::format(", or {}, which leaves 95 % of them whole", most) : ""));
}

// Of all sets together: rows that cannot be used, and sets of which nothing is left or nothing would be learnt.
void check_sets(const DataOptions& options, const DataSplit& data) {
  std::vector<std::pair<const Dataset*, std::string>> sets = {{&data.train, "dataset"}, {&data.eval, "evaluation data"}};
  for (const NamedSet& one : data.evals) sets.emplace_back(&one.set, "evaluation data " + one.name);
  int64_t rows = 0, dropped = 0;
  std::vector<std::string> first;
  for (const auto& [set, what] : sets) {
    rows += set->num_rows;
    dropped += set->num_dropped;
    if (first.empty()) first = set->dropped_rows;
  }
  check_dropped(rows, dropped, first, options);
  for (const auto& [set, what] : sets) {
    if (!options.accept_untrained) check_trained(*set, what, options);
    const bool train = set == &data.train, one = set == &data.eval;
    const bool asked =
        train ? !options.datasets.empty() : !one || options.val_size > 0 || (!options.eval_datasets.empty() && data.evals.empty());
    if (asked) check_usable(*set, what, train ? "trained on" : "evaluated on");
  }
}

void check_options(const DataOptions& options) {
  check_mixing(options);
  const auto refuse = [](const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); };
  if (options.cutoff_len < 1) refuse(fmt::format("cutoff_len: {} is not positive", options.cutoff_len), "");
  if (options.max_samples && *options.max_samples < 1) refuse(fmt::format("max_samples: {} is not positive", *options.max_samples), "");
  if (options.mask_history && options.train_on_prompt) refuse("mask_history and train_on_prompt exclude each other", "set one of them");
  if (options.val_size > 0 && !options.eval_datasets.empty()) refuse("val_size and eval_dataset exclude each other", "set one of them");
  if (options.neat_packing && options.stage != DataStage::sft) refuse("neat_packing goes with stage sft only", "leave it out");
  if (options.stage == DataStage::decisions && options.tokenized_path)
    refuse("tokenized_path does not go with stage decision", "leave it out: the rows are encoded while they are read");
  if (encoding_cutoff(options) < 1)
    refuse(fmt::format("cutoff_len: {} leaves no token for packing", options.cutoff_len), "raise cutoff_len");
  if (!(options.val_size >= 0)) refuse(fmt::format("val_size: {} is not a share or a number of rows", options.val_size), "");
}

}  // namespace

int64_t sufficient_cutoff(const Dataset& set, double share) {
  if (set.whole_lengths.empty()) return 0;
  std::vector<int32_t> lengths = set.whole_lengths;
  const auto left = static_cast<size_t>(share * static_cast<double>(lengths.size()));
  const auto place = lengths.end() - 1 - static_cast<std::ptrdiff_t>(std::min(left, lengths.size() - 1));
  std::nth_element(lengths.begin(), place, lengths.end());
  // One more than the tokens, so that LLaMA-Factory's shares, which are rounded down, cut nothing either.
  return (int64_t{*place} / 8 + 1) * 8;
}

uint64_t data_fingerprint(std::span<const Example> examples) {
  uint64_t hash = 0x9e3779b97f4a7c15ull;
  const auto mix = [&hash](uint64_t value) {  // one round of splitmix64 per pair of values
    hash = (hash ^ value) * 0xbf58476d1ce4e5b9ull;
    hash ^= hash >> 29;
  };
  mix(examples.size());
  for (const Example& example : examples) {
    mix(example.input_ids.size());
    for (size_t i = 0; i < example.input_ids.size(); ++i) {
      const uint64_t label = i < example.labels.size() ? static_cast<uint32_t>(example.labels[i]) : 0;
      mix(static_cast<uint64_t>(static_cast<uint32_t>(example.input_ids[i])) << 32 | label);
    }
    for (int32_t start : example.starts) mix(static_cast<uint64_t>(static_cast<uint32_t>(start)) << 1 | example.sees_all);
    example.let_go();
  }
  hash = (hash ^ (hash >> 32)) * 0x94d049bb133111ebull;
  return hash ^ (hash >> 31);
}

std::vector<std::string> split_names(const std::string& comma_list) {
  std::vector<std::string> names;
  for (size_t at = 0; at <= comma_list.size();) {
    const size_t comma = std::min(comma_list.find(',', at), comma_list.size());
    std::string name = comma_list.substr(at, comma - at);
    name.erase(0, std::min(name.find_first_not_of(" \t"), name.size()));
    name.erase(name.find_last_not_of(" \t") + 1);
    if (!name.empty()) names.push_back(name);
    at = comma + 1;
  }
  return names;
}

DataSplit open_data(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template, SpecialTokens& special) {
  check_options(options);
  const Encoder encoder = make_encoder(options, tokenizer, chat_template, special);
  LegacySampler sampler(static_cast<uint32_t>(options.seed));
  ExampleStore store(store_options(options));
  DataSplit result;
  if (options.tokenized_path && is_prepared(*options.tokenized_path)) {
    result = read_prepared(*options.tokenized_path, options.stage, encoder, store);
    result.recognised.push_back(
        fmt::format("{}: encoded data, as they are; what else is set of data has no effect", *options.tokenized_path));
    if (!options.accept_untrained) check_trained(result.train, "dataset", options);
    return result;
  }
  const bool in_order = options.val_size == 0 && options.mixing == Mixing::concat;
  const Digest digest = [&](std::vector<Row>&& rows, std::deque<Made>& made, bool drawn) {
    const int64_t whole = options.keep_whole == 0 || (in_order && !drawn) ? options.keep_whole : INT64_MAX;
    encode_ahead(encoder, options, std::move(rows), made, store, whole);
  };
  const auto read = [&](const std::vector<std::string>& names) {  // of feedback a row needs another to be encoded
    return read_sets(options, names, sampler, result.recognised, options.stage == DataStage::feedback ? Digest() : digest);
  };
  MixedRows rows = read(options.datasets);
  if (options.val_size > 0) {
    Split split = split_rows(static_cast<int64_t>(rows.order.size()), options.val_size, options.seed);
    for (auto* side : {&split.train, &split.eval})
      for (int64_t& place : *side) place = rows.order[static_cast<size_t>(place)];
    result.eval = make_examples(encoder, options, rows, split.eval, &store);
    result.train = make_examples(encoder, options, rows, split.train, &store);
  } else {
    result.train = make_examples(encoder, options, rows, rows.order, &store);
  }
  if (options.eval_on_each_dataset) {
    for (const std::string& name : options.eval_datasets) {
      MixedRows one = read({name});
      result.evals.push_back({name, make_examples(encoder, options, one, one.order, &store)});
    }
  } else if (!options.eval_datasets.empty()) {
    MixedRows all = read(options.eval_datasets);
    result.eval = make_examples(encoder, options, all, all.order, &store);
  }
  check_sets(options, result);
  if (options.tokenized_path) {
    write_prepared(*options.tokenized_path, options.stage, result);
    result.recognised.push_back(fmt::format("encoded data are kept in {}", *options.tokenized_path));
  }
  return result;
}

std::vector<Prompt> open_prompts(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template,
                                 SpecialTokens& special) {
  check_options(options);
  if (options.stage != DataStage::sft)
    throw Error(ErrorKind::usage, "generation needs questions with one answer, which rows of stage sft are", "set stage: sft");
  const Encoder encoder = make_encoder(options, tokenizer, chat_template, special);
  std::vector<Prompt> prompts;
  Dataset dropped;
  std::vector<std::string> recognised;  // open_data has told
  LegacySampler sampler(static_cast<uint32_t>(options.seed));
  const MixedRows rows = read_sets(options, options.eval_datasets, sampler, recognised);
  for (int64_t place : rows.order) {
    const Row& row = rows.rows[static_cast<size_t>(place)];
    if (tokenizer) encoder.check_model(row);
    ++dropped.num_rows;
    if (!row.dropped.empty()) {
      drop_row(dropped, row.place() + ": " + row.dropped);
      continue;
    }
    try {
      prompts.push_back(encoder.prompt(row));
    } catch (const Error& e) {
      if (e.kind != ErrorKind::bad_data) throw with_context(e, row.place());
      drop_row(dropped, row.place() + ": " + e.what());
    }
  }
  check_dropped(dropped.num_rows, dropped.num_dropped, dropped.dropped_rows, options);
  if (prompts.empty()) throw Error(ErrorKind::bad_data, "evaluation data: no row can be answered", "correct the rows");
  return prompts;
}

}  // namespace loraine
