// Rows to the examples of a stage, in parallel, with counts of what became of them. Called by dataset.cpp.
#pragma once
#include <deque>
#include <memory>
#include <string_view>

#include "loraine/data/dataset.h"
#include "loraine/data/encode/row_encoder.h"
#include "loraine/data/examples/example_store.h"

namespace loraine {

// Of a sample, what the counts of its set add up.
struct SampleCount {
  int32_t rows = 0, labels = 0;  // padding counts as nothing
  bool is_trained = false;       // a label is predicted; the first token never is
};
SampleCount count_of(const Example& sample);

// What a row became: a sample, the two answers of a pair, or feedback and its KL sample; of stage pt the ids of a text; a
// question with few answers. Held for every row, so it is small.
class Made {
 public:
  struct More {
    Example second;  // the rejected answer, or the sample for KL
    DecisionExample decision;
    SampleCount second_count;
    WholeSample uncut;                     // keep_whole
    std::string dropped;                   // where and why it became nothing
    Conversation conversation;             // stage prompts: up to the question,
    std::optional<std::string> reference;  // and the row's own answer
  };
  Example example;
  SampleCount count;
  int32_t whole = 0;  // tokens before it was cut
  bool truncated = false, empty_answer = false, desirable = false, text = false;
  bool has_more() const { return more_ != nullptr; }
  More& more() { return more_ ? *more_ : *(more_ = std::make_unique<More>()); }
  std::string_view dropped() const { return more_ ? std::string_view(more_->dropped) : std::string_view(); }

 private:
  std::unique_ptr<More> more_;
};

// Rows of all sets in turn, as they were read, or what they became; and those of the list, in which one may stand several times.
struct MixedRows {
  std::vector<Row> rows;
  std::deque<Made> made;
  std::vector<int64_t> order;
  bool repeats = false;  // one stands there several times: nothing is let go of
  size_t size() const { return rows.size() + made.size(); }
};

// As options.spill_folder says; the variable LORAINE_IDS_IN_MEMORY (bytes) is for tests.
ExampleStoreOptions store_options(const DataOptions& options);

// Encodes rows one by one, for stages in which none needs another, lays their ids in the store, and lets go of the rows. Of the first
// `whole`, what was cut is kept.
void encode_ahead(const Encoder& encoder, const DataOptions& options, std::vector<Row>&& rows, std::deque<Made>& made, ExampleStore& store,
                  int64_t whole);

// The examples of an order of rows, with their ids in the store where there is one. What a row holds may be let go of as soon as it is
// encoded, so that texts and ids are not both there in full. Throws what concerns all rows; a row that cannot be used is counted and told
// of.
Dataset make_examples(const Encoder& encoder, const DataOptions& options, MixedRows& rows, const std::vector<int64_t>& order,
                      ExampleStore* store);

// Adds a sample to the counts of its set, and the second sample of a row. `whole`: its tokens before it was cut; 0: it has no length of its
// own.
void count_sample(Dataset& set, const SampleCount& sample, int64_t whole);
void count_tokens(Dataset& set, const SampleCount& sample);

void drop_row(Dataset& set, std::string_view where_and_why);

// "12 rows"
std::string rows_text(int64_t n);

}  // namespace loraine
