// Examples that are encoded while they are trained on, from files that may be larger than memory. The order is that of `datasets`'
// IterableDataset as LLaMA-Factory streams it: shuffled through a buffer, anew in every epoch; batches of rows are encoded, and packed,
// behind it.
#pragma once
#include <deque>
#include <memory>
#include <optional>

#include "loraine/data/dataset.h"

namespace loraine {

class StreamedRows;  // of one list of sets, in the order of an epoch
struct Encoder;

class ExampleStream {
 public:
  ~ExampleStream();
  void start_epoch(int64_t epoch);  // from 0; the next example is the epoch's first
  std::optional<Example> next();    // none at the end of the epoch. Throws when more rows than skip_bad_rows cannot be used
  bool skip(int64_t examples);      // passes over so many; false where the epoch has fewer
  const Dataset& counts() const { return counts_; }  // of what has been encoded so far; it holds no examples

 private:
  friend struct StreamedData open_stream(const DataOptions&, Tokenizer*, const ChatTemplate*, SpecialTokens&);
  ExampleStream(std::unique_ptr<Encoder> encoder, const DataOptions& options, std::unique_ptr<StreamedRows> rows, int64_t passed_over);
  bool encode_more();
  std::unique_ptr<Encoder> encoder_;
  DataOptions options_;
  std::unique_ptr<StreamedRows> rows_;
  int64_t passed_over_;  // rows at the beginning of an epoch that are the evaluation's (val_size)
  std::deque<Example> ready_;
  Dataset counts_;
};

struct StreamedData {
  std::unique_ptr<ExampleStream> train;  // at the beginning of epoch 0; none without options.datasets
  DataSplit rest;                        // evaluation sets, in memory; `train` is empty
};

// Arguments as open_data takes them, with options.streaming. Throws usage where a setting does not go with it: val_size as a share,
// max_samples, tokenized_path for data that are not there, stages of preferences.
StreamedData open_stream(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template, SpecialTokens& special);

}  // namespace loraine
