// See make_examples.h.
#include "loraine/data/encode/make_examples.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>
#include <tuple>

#include "loraine/core/batch.h"
#include "loraine/core/count_text.h"
#include "loraine/core/parallel.h"
#include "loraine/data/encode/pretrain.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/data/examples/packing.h"

namespace loraine {
namespace {

constexpr size_t kAtATime = 4096;  // rows that are encoded before their ids are laid down

// Whether a label of the example is predicted; the first token never is.
bool is_trained(const Example& example) {
  return std::any_of(example.labels.begin() + !example.labels.empty(), example.labels.end(),
                     [](int32_t label) { return label != kIgnoreLabel; });
}

bool has_empty_answer(const Conversation& conversation) {
  return std::ranges::any_of(conversation.messages, [](const Message& m) { return m.role == Role::assistant && m.content.empty(); });
}

// What each batch of rows became, in blocks; a row that became nothing has its place in a batch, too.
std::vector<Example> pack_samples(std::span<Made* const> made, const DataOptions& options, int32_t pad, ExampleStore* store) {
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
    const size_t first = blocks.size();
    for (const std::vector<int64_t>& block : fill_blocks(lengths, encoding_cutoff(options))) {
      std::vector<const Example*> laid;
      for (int64_t i : block) laid.push_back(samples[static_cast<size_t>(i)]);
      blocks.push_back(pack_block(laid, options.cutoff_len, pad, !options.neat_packing));
      for (const Example* sample : laid) sample->let_go();
    }
    if (store) store->keep(std::span(blocks).subspan(first));
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

PretrainOptions pretrain_options(const Encoder& encoder, const DataOptions& options) {
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
  return pretrain;
}

Made make_decision(const Encoder& encoder, const Row& row) {
  Made made;
  made.more().decision = encoder.decision(row);
  DecisionExample& decision = made.more().decision;
  for (const Example& sample : decision.samples) {
    encoder.check_ids(sample);
    made.count.rows += static_cast<int32_t>(example_rows(sample));
  }
  made.count.labels = 1;
  made.count.is_trained = true;
  made.whole = static_cast<int32_t>(example_rows(decision.samples.front()));
  return made;
}

Made make(const Encoder& encoder, DataStage stage, const Row& row, const Row* kl) {
  if (stage == DataStage::decisions) return make_decision(encoder, row);
  Made made;
  Encoded first, second;
  if (stage == DataStage::pairs) {
    std::tie(first, second) = encoder.pair(row);
  } else if (stage == DataStage::feedback) {
    std::tie(first, second) = encoder.feedback(row, kl->conversation.messages.back());
  } else if (stage == DataStage::prompts) {
    first = encoder.asked(row);
  } else {
    first = encoder.encode(row);
  }
  encoder.check_ids(first.example);
  encoder.check_ids(second.example);
  made.empty_answer = has_empty_answer(row.conversation);
  made.desirable = row.desirable;
  made.whole = static_cast<int32_t>(std::min<int64_t>(first.whole, INT32_MAX));
  made.truncated = first.truncated || second.truncated;
  if (first.truncated && !first.whole_ids.empty()) made.more().uncut = WholeSample{std::move(first.whole_ids), std::move(first.kept)};
  if (first.example.input_ids.empty()) made.more().dropped = row.place() + ": it becomes no token at all";
  made.example = std::move(first.example);
  made.count = count_of(made.example);
  if (stage == DataStage::sft) return made;
  if (stage == DataStage::prompts) {
    made.empty_answer = false;
    made.count.is_trained = true;  // on the answers to come
    Made::More& more = made.more();
    more.conversation = row.conversation;
    if (!row.unanswered) more.reference = row.conversation.messages.back().content;
    more.conversation.messages.pop_back();
    return made;
  }
  made.more().second = std::move(second.example);
  made.more().second_count = count_of(made.more().second);
  return made;
}

// Stage pt: ids of a text with its end; what is tokenized already is cut.
Made make_text(const Encoder& encoder, const PretrainOptions& options, const Row& row) {
  Made made;
  if (row.tokens) {
    encoder.check_ids(*row.tokens);
    Encoded cut = encoder.cut_tokens(*row.tokens);
    made.truncated = cut.truncated;
    made.whole = static_cast<int32_t>(std::min<int64_t>(cut.whole, INT32_MAX));
    made.example = std::move(cut.example);
    made.count = count_of(made.example);
    return made;
  }
  made.text = true;
  made.example.input_ids = text_ids(row.conversation.messages.front().content, *encoder.tokenizer, options);
  made.whole = static_cast<int32_t>(std::min<size_t>(made.example.input_ids.size(), INT32_MAX));
  made.example.labels = made.example.input_ids;
  if (options.packing) return made;
  made.truncated = made.whole > options.cutoff_len;
  made.example =
      trained_example(made.example.input_ids.first(static_cast<size_t>(std::min<int64_t>(made.whole, options.cutoff_len))), options.pad);
  made.count = count_of(made.example);
  return made;
}

// Into places of their own, in parallel: `encode(i, made)` for i below n. Throws what concerns all rows.
template <class Encode, class RowAt>
void make_each(int64_t n, const RowAt& row_at, const Encode& encode) {
  std::vector<std::exception_ptr> failed(static_cast<size_t>(n));
  const auto make_one = [&](int64_t i) {
    const Row& row = row_at(i);
    try {
      encode(i);
    } catch (const Error& e) { failed[static_cast<size_t>(i)] = std::make_exception_ptr(with_context(e, row.place())); } catch (...) {
      failed[static_cast<size_t>(i)] = std::current_exception();
    }
  };
  parallel_for(n, make_one, 8);
  for (const std::exception_ptr& error : failed)
    if (error) std::rethrow_exception(error);
}

// A row that cannot be used becomes what says so.
Made make_or_drop(const Encoder& encoder, DataStage stage, const PretrainOptions& pretrain, const Row& row, const Row* kl) {
  Made made;
  if (!row.dropped.empty()) {
    made.more().dropped = row.place() + ": " + row.dropped;
    return made;
  }
  if (stage == DataStage::pretraining) return make_text(encoder, pretrain, row);
  try {
    return make(encoder, stage, row, kl);
  } catch (const Error& e) {
    if (e.kind != ErrorKind::bad_data) throw;
    made.more().dropped = row.place() + ": " + e.what();
    return made;
  }
}

// What rows need and the model lacks, and how texts become blocks.
PretrainOptions check_rows(const Encoder& encoder, const DataOptions& options, std::span<const Row> rows) {
  if (options.stage != DataStage::pretraining) {
    for (const Row& row : rows) encoder.check_model(row);
    return {};
  }
  const bool texts = std::ranges::any_of(rows, [](const Row& row) { return row.dropped.empty() && !row.tokens; });
  if (texts && !encoder.tokenizer) throw encoder.no_tokenizer;
  return texts ? pretrain_options(encoder, options) : PretrainOptions();
}

void keep(ExampleStore* store, std::span<Made* const> made) {
  if (!store) return;
  std::vector<Example*> examples;
  for (Made* one : made) {
    examples.push_back(&one->example);
    if (!one->has_more()) continue;
    examples.push_back(&one->more().second);
    for (Example& sample : one->more().decision.samples) examples.push_back(&sample);
  }
  store->keep(examples);
}

std::vector<Made> encode_rows(const Encoder& encoder, const DataOptions& options, MixedRows& mixed, const std::vector<int64_t>& order,
                              ExampleStore* store) {
  std::vector<Row>& rows = mixed.rows;
  const PretrainOptions pretrain = check_rows(encoder, options, rows);
  const bool feedback = options.stage == DataStage::feedback, let_go = !feedback && !mixed.repeats;
  const std::vector<int64_t> kl = feedback ? kl_places(options, rows, order) : std::vector<int64_t>();
  Encoder whole = encoder;
  whole.options.keep_whole = true;
  std::vector<Made> made(order.size());
  for (size_t first = 0; first < order.size(); first += kAtATime) {
    const auto row_at = [&](int64_t i) -> Row& { return rows[static_cast<size_t>(order[static_cast<size_t>(i)])]; };
    const size_t count = std::min(kAtATime, order.size() - first);
    const auto begin = static_cast<int64_t>(first);
    make_each(
        static_cast<int64_t>(count), [&](int64_t i) -> Row& { return row_at(begin + i); },
        [&](int64_t n) {
          const int64_t i = begin + n;
          Row& row = row_at(i);
          const int64_t other = feedback ? kl[static_cast<size_t>(i)] : -1;
          made[static_cast<size_t>(i)] =
              make_or_drop(i < options.keep_whole ? whole : encoder, options.stage, pretrain, row, other < 0 ? nullptr : &row_at(other));
          if (!let_go) return;
          row.conversation = {};
          row.tokens.reset();
        });
    std::vector<Made*> places;
    for (size_t i = first; i < first + count; ++i) places.push_back(&made[i]);
    keep(store, places);
  }
  return made;
}

Dataset collect(const DataOptions& options, int32_t pad, std::span<Made* const> made, ExampleStore* store) {
  const bool blocks = options.stage == DataStage::sft && packs(options);
  Dataset set;
  set.num_rows = static_cast<int64_t>(made.size());
  if (!blocks && options.stage == DataStage::sft)
    set.examples.reserve(static_cast<size_t>(std::ranges::count_if(made, [](const Made* one) { return one->dropped().empty(); })));
  for (Made* one : made) {
    if (!one->dropped().empty()) {
      drop_row(set, one->dropped());
      continue;
    }
    set.num_truncated += one->truncated;
    set.num_empty_answers += one->empty_answer && one->count.is_trained;
    count_sample(set, one->count, one->whole);
    if (options.stage == DataStage::pairs) {
      count_tokens(set, one->more().second_count);
      set.pairs.push_back({one->example, one->more().second});
    } else if (options.stage == DataStage::feedback) {
      set.feedback.push_back({one->example, one->more().second, one->desirable});
    } else if (options.stage == DataStage::decisions) {
      set.decisions.push_back(one->more().decision);
      std::shared_ptr<const DecisionChoices>& own = set.decisions.back().choices;
      if (set.decisions.size() > 1)
        if (const auto& before = set.decisions[set.decisions.size() - 2].choices; *before == *own) own = before;
    } else if (options.stage == DataStage::prompts) {
      set.asked.push_back({one->example, one->more().conversation, one->more().reference});
    } else if (!blocks) {
      if (static_cast<int64_t>(set.whole_samples.size()) < options.keep_whole)
        set.whole_samples.push_back(one->has_more() ? one->more().uncut : WholeSample());
      set.examples.push_back(one->example);
    }
  }
  if (blocks) set.examples = pack_samples(made, options, pad, store);
  return set;
}

void add_example(Dataset& set, const Made& one, int64_t whole) {
  count_sample(set, one.count, whole);
  set.examples.push_back(one.example);
}

// Stage pt: tokenized rows stay what they are and come first, texts become blocks.
Dataset collect_texts(const Encoder& encoder, const DataOptions& options, std::span<Made* const> made, ExampleStore* store) {
  Dataset set;
  set.num_rows = static_cast<int64_t>(made.size());
  std::vector<const Made*> texts;
  for (const Made* one : made) {
    if (!one->dropped().empty()) {
      drop_row(set, one->dropped());
    } else if (one->text) {
      texts.push_back(one);
    } else {
      set.num_truncated += one->truncated;
      if (!one->example.input_ids.empty()) add_example(set, *one, one->whole);
    }
  }
  if (texts.empty()) return set;
  const PretrainOptions pretrain = pretrain_options(encoder, options);
  if (!pretrain.packing) {
    for (const Made* one : texts) {
      set.num_truncated += one->truncated;
      if (!one->example.input_ids.empty()) add_example(set, *one, one->whole);
    }
  } else {
    std::vector<const Example*> samples;
    for (const Made* one : texts) samples.push_back(&one->example);
    TextBlocks blocks = text_blocks(samples, pretrain, store);
    set.num_truncated += blocks.truncated;
    if (blocks.examples.empty() && set.examples.empty() && !options.streaming)
      throw Error(ErrorKind::bad_data,
                  fmt::format("stage pt: the texts of {} fill no block of {} tokens (cutoff_len): end to end they are {}{}",
                              rows_text(static_cast<int64_t>(texts.size())), pretrain.cutoff_len, count_text(blocks.longest),
                              static_cast<int64_t>(texts.size()) > pretrain.texts_at_a_time
                                  ? fmt::format(" at most, {} texts at a time (preprocessing_batch_size)", pretrain.texts_at_a_time)
                                  : ""),
                  fmt::format("set cutoff_len to at most {}, or packing: false, where each text is a sample of its own", blocks.longest));
    for (size_t i = 0; i < blocks.examples.size(); ++i) {
      count_sample(set, blocks.counts[i], 0);
      set.examples.push_back(std::move(blocks.examples[i]));
    }
  }
  return set;
}

}  // namespace

SampleCount count_of(const Example& sample) {
  return {static_cast<int32_t>(example_rows(sample)), static_cast<int32_t>(count_labels(sample)), is_trained(sample)};
}

void count_tokens(Dataset& set, const SampleCount& sample) {
  set.num_tokens += sample.rows;
  set.num_trained += sample.labels;
  set.longest = std::max<int64_t>(set.longest, sample.rows);
}

void count_sample(Dataset& set, const SampleCount& sample, int64_t whole) {
  if (whole > 0) set.whole_lengths.push_back(static_cast<int32_t>(std::min<int64_t>(whole, INT32_MAX)));
  ++set.num_samples;
  set.num_untrained += !sample.is_trained;
  count_tokens(set, sample);
}

void drop_row(Dataset& set, std::string_view where_and_why) {
  ++set.num_dropped;
  if (set.dropped_rows.size() < 5) set.dropped_rows.emplace_back(where_and_why);
}

std::string rows_text(int64_t n) { return count_text(n) + (n == 1 ? " row" : " rows"); }

ExampleStoreOptions store_options(const DataOptions& options) {
  ExampleStoreOptions store;
  store.folder = options.spill_folder;
  if (const char* bytes = std::getenv("LORAINE_IDS_IN_MEMORY")) store.in_memory = std::strtoull(bytes, nullptr, 10);
  return store;
}

void encode_ahead(const Encoder& encoder, const DataOptions& options, std::vector<Row>&& rows, std::deque<Made>& made, ExampleStore& store,
                  int64_t whole) {
  const PretrainOptions pretrain = check_rows(encoder, options, rows);
  Encoder keeping = encoder;
  keeping.options.keep_whole = true;
  const size_t first = made.size();
  made.resize(first + rows.size());
  make_each(
      static_cast<int64_t>(rows.size()), [&](int64_t i) -> Row& { return rows[static_cast<size_t>(i)]; },
      [&](int64_t i) {
        const auto at = static_cast<size_t>(i);
        const bool kept = static_cast<int64_t>(first + at) < whole;
        made[first + at] = make_or_drop(kept ? keeping : encoder, options.stage, pretrain, rows[at], nullptr);
      });
  rows.clear();
  std::vector<Made*> places;
  for (size_t i = first; i < made.size(); ++i) places.push_back(&made[i]);
  keep(&store, places);
}

Dataset make_examples(const Encoder& encoder, const DataOptions& options, MixedRows& rows, const std::vector<int64_t>& order,
                      ExampleStore* store) {
  std::vector<Made> own;
  std::vector<Made*> made;
  made.reserve(order.size());
  if (!rows.made.empty()) {
    for (int64_t i : order) made.push_back(&rows.made[static_cast<size_t>(i)]);
  } else {
    own = encode_rows(encoder, options, rows, order, store);
    for (Made& one : own) made.push_back(&one);
  }
  if (options.stage == DataStage::pretraining) return collect_texts(encoder, options, made, store);
  return collect(options, encoder.special ? encoder.pad() : 0, made, store);
}

}  // namespace loraine
