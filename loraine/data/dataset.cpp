// The story of the data: names to rows, split, encoding in parallel, counts. Called through dataset.h.
#include "loraine/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>

#include "loraine/core/batch.h"
#include "loraine/core/count_text.h"
#include "loraine/core/error.h"
#include "loraine/data/batcher.h"
#include "loraine/data/orders.h"
#include "loraine/data/packing.h"
#include "loraine/data/pretrain.h"
#include "loraine/data/row_encoder.h"
#include "loraine/data/rows.h"

namespace loraine {
namespace {

// Whether a label of the example is predicted; the first token never is.
bool is_trained(const Example& example) {
  return std::any_of(example.labels.begin() + !example.labels.empty(), example.labels.end(),
                     [](int32_t label) { return label != kIgnoreLabel; });
}

bool has_empty_answer(const Conversation& conversation) {
  return std::ranges::any_of(conversation.messages, [](const Message& m) { return m.role == Role::assistant && m.content.empty(); });
}

std::string rows_text(int64_t n) { return count_text(n) + (n == 1 ? " row" : " rows"); }

// `whole`: tokens before it was cut; 0: it has no length of its own.
void count_sample(Dataset& set, const Example& sample, int64_t whole) {
  if (whole > 0) set.whole_lengths.push_back(static_cast<int32_t>(std::min<int64_t>(whole, INT32_MAX)));
  ++set.num_samples;
  set.num_tokens += static_cast<int64_t>(sample.input_ids.size());
  set.num_trained += count_labels(sample);
  set.num_untrained += !is_trained(sample);
  set.longest = std::max(set.longest, static_cast<int64_t>(sample.input_ids.size()));
}

void add_example(Dataset& set, Example example, int64_t whole) {
  count_sample(set, example, whole);
  set.examples.push_back(std::move(example));
}

void drop_row(Dataset& set, const Row& row, const std::string& why) {
  ++set.num_dropped;
  if (set.dropped_rows.size() < 5) set.dropped_rows.push_back(row.place() + ": " + why);
}

// What each batch of rows became, in blocks; a row that became nothing has its place in a batch, too.
std::vector<Example> pack_samples(std::span<const Encoded> encoded, const DataOptions& options, int32_t pad) {
  std::vector<Example> blocks;
  const std::vector<int64_t> starts =
      batch_starts(static_cast<int64_t>(encoded.size()), options.preprocessing_batch_size, options.preprocessing_num_workers);
  for (size_t batch = 0; batch + 1 < starts.size(); ++batch) {
    std::vector<const Example*> samples;
    std::vector<int64_t> lengths;
    for (int64_t i = starts[batch]; i < starts[batch + 1]; ++i) {
      const Example& sample = encoded[static_cast<size_t>(i)].example;
      if (sample.input_ids.empty()) continue;
      samples.push_back(&sample);
      lengths.push_back(static_cast<int64_t>(sample.input_ids.size()));
    }
    for (const std::vector<int64_t>& block : fill_blocks(lengths, encoding_cutoff(options))) {
      std::vector<const Example*> laid;
      for (int64_t i : block) laid.push_back(samples[static_cast<size_t>(i)]);
      blocks.push_back(pack_block(laid, options.cutoff_len, pad, !options.neat_packing));
    }
  }
  return blocks;
}

// The rows of an order, each of which stands there once, as examples. What a row holds is let go of as soon as it is encoded, so that texts
// and ids are not both there in full.
Dataset encode_rows(const Encoder& encoder, const DataOptions& options, std::vector<Row>& rows, const std::vector<int64_t>& order) {
  for (int64_t i : order) encoder.check_model(rows[static_cast<size_t>(i)]);
  const int64_t n = static_cast<int64_t>(order.size());
  std::vector<Encoded> encoded(order.size());
  std::vector<char> empty(order.size());  // whether an answer is
  std::vector<std::exception_ptr> failed(order.size());
#pragma omp parallel for schedule(dynamic, 8)
  for (int64_t i = 0; i < n; ++i) {
    Row& row = rows[static_cast<size_t>(order[static_cast<size_t>(i)])];
    if (!row.dropped.empty()) continue;
    try {
      encoded[static_cast<size_t>(i)] = encoder.encode(row);
      encoder.check_ids(row, encoded[static_cast<size_t>(i)].example);
      empty[static_cast<size_t>(i)] = has_empty_answer(row.conversation);
      row.conversation = {};
      row.tokens.reset();
    } catch (const Error& e) {
      if (e.kind == ErrorKind::bad_data) row.dropped = e.what();
      else failed[static_cast<size_t>(i)] = std::make_exception_ptr(with_context(e, row.place()));
    } catch (...) { failed[static_cast<size_t>(i)] = std::current_exception(); }
  }
  Dataset set;
  set.num_rows = n;
  for (size_t i = 0; i < order.size(); ++i) {
    const Row& row = rows[static_cast<size_t>(order[i])];
    if (failed[i]) std::rethrow_exception(failed[i]);
    Example& example = encoded[i].example;
    if (!row.dropped.empty() || example.input_ids.empty()) {
      drop_row(set, row, row.dropped.empty() ? "it becomes no token at all" : row.dropped);
      example = {};
      continue;
    }
    set.num_truncated += encoded[i].truncated;
    set.num_empty_answers += empty[i] && is_trained(example);
    count_sample(set, example, encoded[i].whole);
    if (!packs(options)) set.examples.push_back(std::move(example));
  }
  if (packs(options)) set.examples = pack_samples(encoded, options, encoder.pad());
  return set;
}

// Tokenized rows stay what they are, texts become blocks.
Dataset encode_texts(const Encoder& encoder, const DataOptions& options, const std::vector<Row>& rows, const std::vector<int64_t>& order) {
  Dataset set;
  std::vector<const std::string*> texts;
  for (int64_t i : order) {
    const Row& row = rows[static_cast<size_t>(i)];
    ++set.num_rows;
    if (!row.dropped.empty()) {
      drop_row(set, row, row.dropped);
    } else if (row.tokens) {
      encoder.check_ids(row, *row.tokens);
      Encoded cut = encoder.cut_tokens(*row.tokens);
      set.num_truncated += cut.truncated;
      if (!cut.example.input_ids.empty()) add_example(set, std::move(cut.example), cut.whole);
    } else {
      texts.push_back(&row.conversation.messages.front().content);
    }
  }
  if (texts.empty()) return set;
  if (!encoder.tokenizer) throw encoder.no_tokenizer;
  PretrainOptions pretrain;
  pretrain.cutoff_len = encoding_cutoff(options);
  pretrain.packing = options.packing.value_or(true);
  pretrain.texts_at_a_time = options.preprocessing_batch_size;
  pretrain.split_special_tokens = options.split_special_tokens;
  if (encoder.special->pad) pretrain.pad = encoder.special->pad;
  if (encoder.named && encoder.named->name == "llama3") pretrain.end = "<|end_of_text|>";
  else if (encoder.special->eos) pretrain.end = encoder.tokenizer->decode({&*encoder.special->eos, 1}, false);
  else if (encoder.named)
    throw Error(ErrorKind::usage,
                "stage pt ends every text with the end token; the tokenizer has none, and the embedding no row for a new one",
                "name eos_token in tokenizer_config.json");
  Pretrained made = pretrain_examples(texts, *encoder.tokenizer, pretrain);
  set.num_truncated += made.truncated;
  if (made.examples.empty() && set.examples.empty())
    throw Error(ErrorKind::bad_data,
                fmt::format("stage pt: the texts of {} fill no block of {} tokens (cutoff_len): end to end they are {}{}",
                            rows_text(static_cast<int64_t>(texts.size())), pretrain.cutoff_len, count_text(made.longest),
                            static_cast<int64_t>(texts.size()) > pretrain.texts_at_a_time
                                ? fmt::format(" at most, {} texts at a time (preprocessing_batch_size)", pretrain.texts_at_a_time)
                                : ""),
                fmt::format("set cutoff_len to at most {}, or packing: false, where each text is a sample of its own", made.longest));
  for (size_t i = 0; i < made.examples.size(); ++i)
    if (!made.examples[i].input_ids.empty()) add_example(set, std::move(made.examples[i]), pretrain.packing ? 0 : made.lengths[i]);
  return set;
}

std::vector<Row> read_sets(const DataOptions& options, const std::vector<std::string>& names, std::vector<std::string>& recognised) {
  std::vector<Row> all;
  for (const std::string& name : names) {
    DatasetInfo info = find_dataset(options.dataset_dir, name, options.find_repository);
    info.text_only = options.pretraining;
    std::string layout;
    auto rows = read_rows(info, info.num_samples ? std::nullopt : options.max_samples, &layout);
    if (!layout.empty()) recognised.push_back(layout);
    if (info.num_samples) {
      std::vector<Row> drawn;
      for (int64_t i : numpy_legacy_samples(static_cast<int64_t>(rows.size()), *info.num_samples, static_cast<uint32_t>(options.seed)))
        drawn.push_back(rows[static_cast<size_t>(i)]);
      rows = std::move(drawn);
    }
    if (options.max_samples && static_cast<int64_t>(rows.size()) > *options.max_samples)
      rows.resize(static_cast<size_t>(*options.max_samples));
    std::move(rows.begin(), rows.end(), std::back_inserter(all));
  }
  return all;
}

void check_usable(const Dataset& set, const char* what, const char* use) {
  if (!set.examples.empty()) return;
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
void check_trained(const Dataset& set, const char* what, const DataOptions& options) {
  if (set.num_untrained < set.num_samples || set.examples.empty()) return;
  const int64_t enough = sufficient_cutoff(set, 0), most = sufficient_cutoff(set, 0.05);
  throw Error(ErrorKind::usage,
              fmt::format("{}: the labels of all {} samples are masked, so nothing would be learnt (cutoff_len {}, {} samples cut)", what,
                          set.num_samples, options.cutoff_len, set.num_truncated),
              set.num_truncated == 0 || enough == 0
                  ? "check that the answers are where dataset_info.json says"
                  : fmt::format("set cutoff_len: {}, which cuts none{}", enough,
                                most < enough ? fmt::format(", or {}, which leaves 95 % of them whole", most) : ""));
}

void check_options(const DataOptions& options) {
  const auto refuse = [](const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); };
  if (options.cutoff_len < 1) refuse(fmt::format("cutoff_len: {} is not positive", options.cutoff_len), "");
  if (options.max_samples && *options.max_samples < 1) refuse(fmt::format("max_samples: {} is not positive", *options.max_samples), "");
  if (options.mask_history && options.train_on_prompt) refuse("mask_history and train_on_prompt exclude each other", "set one of them");
  if (options.val_size > 0 && !options.eval_datasets.empty()) refuse("val_size and eval_dataset exclude each other", "set one of them");
  if (options.neat_packing && options.pretraining) refuse("neat_packing goes with stage sft only, and it is pt", "leave it out");
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
  DataSplit result;
  std::vector<Row> rows = read_sets(options, options.datasets, result.recognised);
  const int64_t n = static_cast<int64_t>(rows.size());
  Split split;
  if (options.val_size > 0) {
    split = split_rows(n, options.val_size, options.seed);
  } else {
    split.train.resize(rows.size());
    for (int64_t i = 0; i < n; ++i) split.train[static_cast<size_t>(i)] = i;
  }
  const auto encode = [&](std::vector<Row>& all, const std::vector<int64_t>& order) {
    return options.pretraining ? encode_texts(encoder, options, all, order) : encode_rows(encoder, options, all, order);
  };
  result.train = encode(rows, split.train);
  result.eval = encode(rows, split.eval);
  if (!options.eval_datasets.empty()) {
    std::vector<Row> eval_rows = read_sets(options, options.eval_datasets, result.recognised);
    std::vector<int64_t> order(eval_rows.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    result.eval = encode(eval_rows, order);
  }
  check_dropped(result.train.num_rows + result.eval.num_rows, result.train.num_dropped + result.eval.num_dropped,
                result.train.dropped_rows.empty() ? result.eval.dropped_rows : result.train.dropped_rows, options);
  if (!options.accept_untrained) {
    check_trained(result.train, "dataset", options);
    check_trained(result.eval, "evaluation data", options);
  }
  if (!options.datasets.empty()) check_usable(result.train, "dataset", "trained on");
  if (options.val_size > 0 || !options.eval_datasets.empty()) check_usable(result.eval, "evaluation data", "evaluated on");
  return result;
}

std::vector<Prompt> open_prompts(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template,
                                 SpecialTokens& special) {
  check_options(options);
  if (options.pretraining)
    throw Error(ErrorKind::usage, "generation needs questions, and rows of stage pt are texts without any", "set stage: sft");
  const Encoder encoder = make_encoder(options, tokenizer, chat_template, special);
  std::vector<Prompt> prompts;
  Dataset dropped;
  std::vector<std::string> recognised;  // open_data has told
  for (const Row& row : read_sets(options, options.eval_datasets, recognised)) {
    if (tokenizer) encoder.check_model(row);
    ++dropped.num_rows;
    if (!row.dropped.empty()) {
      drop_row(dropped, row, row.dropped);
      continue;
    }
    try {
      prompts.push_back(encoder.prompt(row));
    } catch (const Error& e) {
      if (e.kind != ErrorKind::bad_data) throw with_context(e, row.place());
      drop_row(dropped, row, e.what());
    }
  }
  check_dropped(dropped.num_rows, dropped.num_dropped, dropped.dropped_rows, options);
  if (prompts.empty()) throw Error(ErrorKind::bad_data, "evaluation data: no row can be answered", "correct the rows");
  return prompts;
}

}  // namespace loraine
