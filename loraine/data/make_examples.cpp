// See make_examples.h.
#include "loraine/data/make_examples.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <tuple>

#include "loraine/core/batch.h"
#include "loraine/core/count_text.h"
#include "loraine/data/batcher.h"
#include "loraine/data/packing.h"
#include "loraine/data/pretrain.h"

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

void add_example(Dataset& set, Example example, int64_t whole) {
  count_sample(set, example, whole);
  set.examples.push_back(std::move(example));
}

// What each batch of rows became, in blocks; a row that became nothing has its place in a batch, too.
std::vector<Example> pack_samples(std::span<Made* const> made, const DataOptions& options, int32_t pad) {
  std::vector<Example> blocks;
  const std::vector<int64_t> starts =
      batch_starts(static_cast<int64_t>(made.size()), options.preprocessing_batch_size, options.preprocessing_num_workers);
  for (size_t batch = 0; batch + 1 < starts.size(); ++batch) {
    std::vector<const Example*> samples;
    std::vector<int64_t> lengths;
    for (int64_t i = starts[batch]; i < starts[batch + 1]; ++i) {
      const Example& sample = made[static_cast<size_t>(i)]->example;
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

// For each place of the order the place of the row whose answer is its KL sample's: the one before it in its batch, the first one's is the
// last one's. Rows that cannot be used are passed over.
std::vector<int64_t> kl_places(const DataOptions& options, const std::vector<Row>& rows, const std::vector<int64_t>& order) {
  std::vector<int64_t> places(order.size(), -1);
  const std::vector<int64_t> starts =
      batch_starts(static_cast<int64_t>(order.size()), options.preprocessing_batch_size, options.preprocessing_num_workers);
  for (size_t batch = 0; batch + 1 < starts.size(); ++batch) {
    const auto usable = [&](int64_t place) { return rows[static_cast<size_t>(order[static_cast<size_t>(place)])].dropped.empty(); };
    int64_t before = starts[batch + 1] - 1;
    while (before >= starts[batch] && !usable(before)) --before;
    for (int64_t place = starts[batch]; place < starts[batch + 1]; ++place) {
      if (!usable(place)) continue;
      places[static_cast<size_t>(place)] = before;
      before = place;
    }
  }
  return places;
}

Made make(const Encoder& encoder, DataStage stage, const Row& row, const Row* kl) {
  Made made;
  Encoded first, second;
  if (stage == DataStage::pairs) {
    std::tie(first, second) = encoder.pair(row);
  } else if (stage == DataStage::feedback) {
    std::tie(first, second) = encoder.feedback(row, kl->conversation.messages.back());
  } else {
    first = encoder.encode(row);
  }
  encoder.check_ids(first.example);
  encoder.check_ids(second.example);
  made.empty_answer = has_empty_answer(row.conversation);
  made.desirable = row.desirable;
  made.whole = static_cast<int32_t>(std::min<int64_t>(first.whole, INT32_MAX));
  made.truncated = first.truncated || second.truncated;
  if (!first.whole_ids.empty()) made.uncut = std::make_shared<WholeSample>(WholeSample{std::move(first.whole_ids), std::move(first.kept)});
  if (stage != DataStage::sft) made.second = std::make_shared<Example>(std::move(second.example));
  if (first.example.input_ids.empty()) made.dropped = row.place() + ": it becomes no token at all";
  made.example = std::move(first.example);
  return made;
}

// Into places of their own, in parallel: `encode(i, made)` for i below n. Throws what concerns all rows.
template <class Encode, class RowAt>
void make_each(int64_t n, const RowAt& row_at, const Encode& encode) {
  std::vector<std::exception_ptr> failed(static_cast<size_t>(n));
#pragma omp parallel for schedule(dynamic, 8)
  for (int64_t i = 0; i < n; ++i) {
    const Row& row = row_at(i);
    try {
      encode(i);
    } catch (const Error& e) { failed[static_cast<size_t>(i)] = std::make_exception_ptr(with_context(e, row.place())); } catch (...) {
      failed[static_cast<size_t>(i)] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : failed)
    if (error) std::rethrow_exception(error);
}

// A row that cannot be used becomes what says so.
Made make_or_drop(const Encoder& encoder, DataStage stage, const Row& row, const Row* kl) {
  Made made;
  if (!row.dropped.empty()) {
    made.dropped = row.place() + ": " + row.dropped;
    return made;
  }
  try {
    return make(encoder, stage, row, kl);
  } catch (const Error& e) {
    if (e.kind != ErrorKind::bad_data) throw;
    made.dropped = row.place() + ": " + e.what();
    return made;
  }
}

std::vector<Made> encode_rows(const Encoder& encoder, const DataOptions& options, MixedRows& mixed, const std::vector<int64_t>& order) {
  std::vector<Row>& rows = mixed.rows;
  const auto row_at = [&](int64_t i) -> Row& { return rows[static_cast<size_t>(order[static_cast<size_t>(i)])]; };
  for (size_t i = 0; i < order.size(); ++i) encoder.check_model(row_at(static_cast<int64_t>(i)));
  const bool feedback = options.stage == DataStage::feedback, let_go = !feedback && !mixed.repeats;
  const std::vector<int64_t> kl = feedback ? kl_places(options, rows, order) : std::vector<int64_t>();
  Encoder whole = encoder;
  whole.options.keep_whole = true;
  std::vector<Made> made(order.size());
  make_each(static_cast<int64_t>(order.size()), row_at, [&](int64_t i) {
    Row& row = row_at(i);
    const int64_t other = feedback ? kl[static_cast<size_t>(i)] : -1;
    made[static_cast<size_t>(i)] =
        make_or_drop(i < options.keep_whole ? whole : encoder, options.stage, row, other < 0 ? nullptr : &row_at(other));
    if (!let_go) return;
    row.conversation = {};
    row.tokens.reset();
  });
  return made;
}

// let_go: what the rows became may be moved out of them.
Dataset collect(const DataOptions& options, int32_t pad, std::span<Made* const> made, bool let_go) {
  const bool blocks = options.stage == DataStage::sft && packs(options);
  const auto taken = [&](Example& example) { return let_go ? std::move(example) : example; };
  Dataset set;
  set.num_rows = static_cast<int64_t>(made.size());
  for (Made* one : made) {
    if (!one->dropped.empty()) {
      drop_row(set, one->dropped);
      continue;
    }
    set.num_truncated += one->truncated;
    set.num_empty_answers += one->empty_answer && is_trained(one->example);
    count_sample(set, one->example, one->whole);
    if (options.stage == DataStage::pairs) {
      count_tokens(set, *one->second);
      set.pairs.push_back({taken(one->example), taken(*one->second)});
    } else if (options.stage == DataStage::feedback) {
      set.feedback.push_back({taken(one->example), taken(*one->second), one->desirable});
    } else if (!blocks) {
      if (one->uncut && static_cast<int64_t>(set.whole_samples.size()) < options.keep_whole) set.whole_samples.push_back(*one->uncut);
      set.examples.push_back(taken(one->example));
    }
  }
  if (blocks) set.examples = pack_samples(made, options, pad);
  return set;
}

Dataset make_samples(const Encoder& encoder, const DataOptions& options, MixedRows& rows, const std::vector<int64_t>& order) {
  std::vector<Made> own;
  std::vector<Made*> made;
  made.reserve(order.size());
  const bool ahead = !rows.made.empty();
  if (ahead) {
    for (int64_t i : order) made.push_back(&rows.made[static_cast<size_t>(i)]);
  } else {
    own = encode_rows(encoder, options, rows, order);
    for (Made& one : own) made.push_back(&one);
  }
  return collect(options, encoder.special ? encoder.pad() : 0, made, !ahead || !rows.repeats);
}

// Tokenized rows stay what they are, texts become blocks.
Dataset encode_texts(const Encoder& encoder, const DataOptions& options, const std::vector<Row>& rows, const std::vector<int64_t>& order) {
  Dataset set;
  std::vector<const std::string*> texts;
  for (int64_t i : order) {
    const Row& row = rows[static_cast<size_t>(i)];
    ++set.num_rows;
    if (!row.dropped.empty()) {
      drop_row(set, row.place() + ": " + row.dropped);
    } else if (row.tokens) {
      try {
        encoder.check_ids(*row.tokens);
      } catch (const Error& error) { throw with_context(error, row.place()); }
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
  pretrain.workers = options.preprocessing_num_workers;
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
  if (made.examples.empty() && set.examples.empty() && !options.streaming)
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

}  // namespace

void count_tokens(Dataset& set, const Example& sample) {
  set.num_tokens += example_rows(sample);
  set.num_trained += count_labels(sample);
  set.longest = std::max(set.longest, example_rows(sample));
}

void count_sample(Dataset& set, const Example& sample, int64_t whole) {
  if (whole > 0) set.whole_lengths.push_back(static_cast<int32_t>(std::min<int64_t>(whole, INT32_MAX)));
  ++set.num_samples;
  set.num_untrained += !is_trained(sample);
  count_tokens(set, sample);
}

void drop_row(Dataset& set, const std::string& where_and_why) {
  ++set.num_dropped;
  if (set.dropped_rows.size() < 5) set.dropped_rows.push_back(where_and_why);
}

std::string rows_text(int64_t n) { return count_text(n) + (n == 1 ? " row" : " rows"); }

void encode_ahead(const Encoder& encoder, const DataOptions& options, std::vector<Row>&& rows, std::deque<Made>& made) {
  for (const Row& row : rows) encoder.check_model(row);
  const size_t first = made.size();
  made.resize(first + rows.size());
  make_each(
      static_cast<int64_t>(rows.size()), [&](int64_t i) -> Row& { return rows[static_cast<size_t>(i)]; },
      [&](int64_t i) {
        const auto at = static_cast<size_t>(i);
        made[first + at] = make_or_drop(encoder, options.stage, rows[at], nullptr);
      });
  rows.clear();
}

Dataset make_examples(const Encoder& encoder, const DataOptions& options, MixedRows& rows, const std::vector<int64_t>& order) {
  return options.stage == DataStage::pretraining ? encode_texts(encoder, options, rows.rows, order)
                                                 : make_samples(encoder, options, rows, order);
}

}  // namespace loraine
