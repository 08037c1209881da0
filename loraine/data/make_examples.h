// Rows to the examples of a stage, in parallel, with counts of what became of them. Called by dataset.cpp.
#pragma once
#include <deque>
#include <memory>

#include "loraine/data/dataset.h"
#include "loraine/data/row_encoder.h"

namespace loraine {

// What a row became: a sample, the two answers of a pair, or feedback and its KL sample. Held for every row, so it is small.
struct Made {
  Example example;
  std::shared_ptr<Example> second;     // the rejected answer, or the sample for KL
  std::shared_ptr<WholeSample> uncut;  // keep_whole
  std::string dropped;                 // where and why it became nothing
  int32_t whole = 0;                   // tokens before it was cut
  bool truncated = false, empty_answer = false, desirable = false;
};

// Rows of all sets in turn, as they were read, or what they became; and those of the list, in which one may stand several times.
struct MixedRows {
  std::vector<Row> rows;
  std::deque<Made> made;
  std::vector<int64_t> order;
  bool repeats = false;  // one stands there several times: nothing is let go of
  size_t size() const { return rows.size() + made.size(); }
};

// Encodes rows one by one, for stages in which none needs another, and lets go of them.
void encode_ahead(const Encoder& encoder, const DataOptions& options, std::vector<Row>&& rows, std::deque<Made>& made);

// The examples of an order of rows. What a row holds may be let go of as soon as it is encoded, so that texts and ids are not both there in
// full. Throws what concerns all rows; a row that cannot be used is counted and told of.
Dataset make_examples(const Encoder& encoder, const DataOptions& options, MixedRows& rows, const std::vector<int64_t>& order);

// Adds a sample to the counts of its set, and the second sample of a row. `whole`: its tokens before it was cut; 0: it has no length of its
// own. Padding counts as nothing.
void count_sample(Dataset& set, const Example& sample, int64_t whole);
void count_tokens(Dataset& set, const Example& sample);

void drop_row(Dataset& set, const std::string& where_and_why);

// "12 rows"
std::string rows_text(int64_t n);

}  // namespace loraine
