// See stream.h.
#include "loraine/data/order/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "loraine/core/count_text.h"
#include "loraine/data/encode/make_examples.h"
#include "loraine/data/encode/row_encoder.h"
#include "loraine/data/order/stream_order.h"
#include "loraine/data/rows/mix.h"
#include "loraine/data/rows/row_reader.h"

namespace loraine {

// Rows of several sets in the order of an epoch, through the buffer.
class StreamedRows {
 public:
  StreamedRows(const DataOptions& options, const std::vector<std::string>& names, std::vector<std::string>& recognised)
      : options_(options) {
    for (const std::string& name : names) {
      Source source;
      DatasetInfo info = find_set(options, name);
      if (info.recognise) {
        recognised.emplace_back();
        each_row(
            info, 1, [](Row&&) { return true; }, &recognised.back());
      }
      source.size = options.shards > 1 ? count_rows(info) : -1;
      if (source.size >= 0 && source.size < options.shards)
        throw Error(
            ErrorKind::usage,
            fmt::format("data set {} has {} rows, which cannot be {} shards (dataloader_num_workers)", name, source.size, options.shards),
            "set dataloader_num_workers: 1");
      source.reader = std::make_unique<RowReader>(std::move(info));
      sources_.push_back(std::move(source));
    }
  }

  void start_epoch(int64_t epoch) {
    const Pcg64 generator = epoch_generator(options_.seed, epoch);
    order_.emplace(sources_.size(), sources_.size() == 1 ? Mixing::concat : options_.mixing, options_.interleave_probs, generator);
    draws_.emplace(options_.buffer_size, generator);
    buffer_.clear();
    drained_ = false;
    rest_ = 0;
    for (Source& source : sources_) {
      source.shards =
          source.size < 0 ? std::vector<std::pair<int64_t, int64_t>>{{0, -1}} : shard_order(source.size, options_.shards, generator);
      source.begin();
    }
  }

  std::optional<Row> next() {
    while (!drained_) {
      std::optional<Row> row = next_in_order();
      if (!row) {
        drained_ = true;
        draws_->generator().shuffle(buffer_);
      } else if (static_cast<int64_t>(buffer_.size()) == options_.buffer_size) {
        return std::exchange(buffer_[draws_->next()], std::move(*row));
      } else {
        buffer_.push_back(std::move(*row));
      }
    }
    if (rest_ == buffer_.size()) return std::nullopt;
    return std::move(buffer_[rest_++]);
  }

 private:
  struct Source {
    std::unique_ptr<RowReader> reader;
    int64_t size = -1;  // rows; -1: not counted, it is one shard
    std::vector<std::pair<int64_t, int64_t>> shards;
    size_t shard = 0;
    std::optional<Row> ahead;  // the row that comes next
    bool begun = false;

    void begin() {
      begun = false;
      ahead.reset();
    }
    std::optional<Row> pull() {
      for (;;) {
        if (std::optional<Row> row = reader->next()) return row;
        if (++shard >= shards.size()) return std::nullopt;
        reader->start(shards[shard].first, shards[shard].second);
      }
    }
    // Its next row; `last`: none follows.
    std::optional<Row> take(bool& last) {
      if (!begun) {
        begun = true;
        shard = 0;
        reader->start(shards[0].first, shards[0].second);
        ahead = pull();
      }
      std::optional<Row> row = std::exchange(ahead, pull());
      last = !ahead;
      return row;
    }
  };

  std::optional<Row> next_in_order() {
    for (;;) {
      const auto set = order_->next();
      if (!set) return std::nullopt;
      bool last = false;
      std::optional<Row> row = sources_[*set].take(last);
      if (last) {
        order_->ended(*set);
        sources_[*set].begin();  // where the order comes back to it
      }
      if (row) return row;
    }
  }

  const DataOptions options_;
  std::vector<Source> sources_;
  std::optional<SetOrder> order_;
  std::optional<BufferDraws> draws_;
  std::vector<Row> buffer_;
  bool drained_ = false;
  size_t rest_ = 0;
};

namespace {

void check_streaming(const DataOptions& options) {
  const auto refuse = [](const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); };
  check_mixing(options);
  if (options.val_size > 0 && options.val_size < 1)
    refuse(fmt::format("val_size: {} is a share, and how many rows are streamed is not known", options.val_size), "give a number of rows");
  if (options.max_samples) refuse("max_samples does not go with streaming", "leave one of them out");
  if (options.buffer_size < 1) refuse(fmt::format("buffer_size: {} is not positive", options.buffer_size), "");
  if (options.tokenized_path)
    refuse("tokenized_path keeps data that are all encoded before, and streaming encodes them while they are trained on",
           "leave one of them out");
  if (options.stage == DataStage::pairs || options.stage == DataStage::feedback || options.stage == DataStage::prompts)
    refuse("streaming goes with stages sft and pt", "leave it out");
}

// Counts of a batch of rows added to those of the stream.
void add_counts(Dataset& all, const Dataset& part) {
  all.num_rows += part.num_rows;
  all.num_samples += part.num_samples;
  all.num_truncated += part.num_truncated;
  all.num_dropped += part.num_dropped;
  all.num_untrained += part.num_untrained;
  all.num_empty_answers += part.num_empty_answers;
  all.num_tokens += part.num_tokens;
  all.num_trained += part.num_trained;
  all.longest = std::max(all.longest, part.longest);
  for (const std::string& row : part.dropped_rows)
    if (all.dropped_rows.size() < 5) all.dropped_rows.push_back(row);
}

Dataset encode_batch(const Encoder& encoder, const DataOptions& options, std::vector<Row>& rows, ExampleStore* store) {
  MixedRows batch;
  batch.rows = std::move(rows);
  rows.clear();
  batch.order.resize(batch.rows.size());
  std::iota(batch.order.begin(), batch.order.end(), int64_t{0});
  return make_examples(encoder, options, batch, batch.order, store);
}

void check_dropped(const Dataset& counts, const DataOptions& options) {
  if (counts.num_dropped <= options.skip_bad_rows) return;
  throw Error(ErrorKind::bad_data,
              fmt::format("{} that cannot be used; the first is {}", rows_text(counts.num_dropped), counts.dropped_rows.at(0)),
              fmt::format("correct the data, or set skip_bad_rows: at most so many are passed over, now {}", options.skip_bad_rows));
}

// Rows at the beginning of the first epoch, at most `most` (-1: all), all of them kept.
Dataset read_ahead(const Encoder& encoder, const DataOptions& options, StreamedRows& rows, int64_t most, ExampleStore& store) {
  rows.start_epoch(0);
  Dataset set;
  std::vector<Row> batch;
  const auto encode = [&] {
    Dataset part = encode_batch(encoder, options, batch, &store);
    add_counts(set, part);
    std::move(part.examples.begin(), part.examples.end(), std::back_inserter(set.examples));
    batch.clear();
  };
  for (int64_t taken = 0; taken != most; ++taken) {
    std::optional<Row> row = rows.next();
    if (!row) break;
    batch.push_back(std::move(*row));
    if (static_cast<int64_t>(batch.size()) == options.preprocessing_batch_size) encode();
  }
  if (!batch.empty()) encode();
  check_dropped(set, options);
  return set;
}

}  // namespace

ExampleStream::ExampleStream(std::unique_ptr<Encoder> encoder, const DataOptions& options, std::unique_ptr<StreamedRows> rows,
                             int64_t passed_over)
    : encoder_(std::move(encoder)), options_(options), rows_(std::move(rows)), passed_over_(passed_over) {
  start_epoch(0);
}

ExampleStream::~ExampleStream() = default;

void ExampleStream::start_epoch(int64_t epoch) {
  rows_->start_epoch(epoch);
  ready_.clear();
  for (int64_t i = 0; i < passed_over_; ++i)
    if (!rows_->next()) break;
}

bool ExampleStream::encode_more() {
  std::vector<Row> batch;
  while (static_cast<int64_t>(batch.size()) < options_.preprocessing_batch_size) {
    std::optional<Row> row = rows_->next();
    if (!row) break;
    batch.push_back(std::move(*row));
  }
  if (batch.empty()) return false;
  Dataset part = encode_batch(*encoder_, options_, batch, nullptr);
  add_counts(counts_, part);
  check_dropped(counts_, options_);
  std::move(part.examples.begin(), part.examples.end(), std::back_inserter(ready_));
  return true;
}

std::optional<Example> ExampleStream::next() {
  while (ready_.empty())
    if (!encode_more()) return std::nullopt;
  Example example = std::move(ready_.front());
  ready_.pop_front();
  return example;
}

bool ExampleStream::skip(int64_t examples) {
  for (int64_t i = 0; i < examples; ++i)
    if (!next()) return false;
  return true;
}

StreamedData open_stream(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template, SpecialTokens& special) {
  check_streaming(options);
  StreamedData data;
  auto encoder = std::make_unique<Encoder>(make_encoder(options, tokenizer, chat_template, special));
  ExampleStore store(store_options(options));
  const auto evaluate = [&](const std::vector<std::string>& names, const DataOptions& how) {
    StreamedRows rows(how, names, data.rest.recognised);
    return read_ahead(*encoder, how, rows, -1, store);
  };
  if (options.eval_on_each_dataset) {
    DataOptions as_they_are = options;  // such sets are not shuffled
    as_they_are.buffer_size = as_they_are.shards = 1;
    for (const std::string& name : options.eval_datasets) data.rest.evals.push_back({name, evaluate({name}, as_they_are)});
  } else if (!options.eval_datasets.empty()) {
    data.rest.eval = evaluate(options.eval_datasets, options);
  }
  if (options.datasets.empty()) return data;
  const auto kept = static_cast<int64_t>(options.val_size);
  if (kept > 0) {
    StreamedRows rows(options, options.datasets, data.rest.recognised);
    data.rest.eval = read_ahead(*encoder, options, rows, kept, store);
  }
  auto rows = std::make_unique<StreamedRows>(options, options.datasets, data.rest.recognised);
  data.train.reset(new ExampleStream(std::move(encoder), options, std::move(rows), kept));
  return data;
}

}  // namespace loraine
