// Rows to the examples of a stage, in parallel, with counts of what became of them. Called by dataset.cpp.
#pragma once
#include "loraine/data/dataset.h"
#include "loraine/data/row_encoder.h"

namespace loraine {

// The rows of an order, in which one may stand several times. What a row holds may be let go of as soon as it is encoded, so that texts and
// ids are not both there in full. Throws what concerns all rows; a row that cannot be used is counted and told of.
Dataset make_examples(const Encoder& encoder, const DataOptions& options, std::vector<Row>& rows, const std::vector<int64_t>& order);

// Encodes rows where they stand (Row.made), as make_examples would; for stages in which a row needs no other.
void encode_ahead(const Encoder& encoder, const DataOptions& options, std::span<Row> rows);

// Adds a sample to the counts of its set, and the second sample of a row. `whole`: its tokens before it was cut; 0: it has no length of its
// own. Padding counts as nothing.
void count_sample(Dataset& set, const Example& sample, int64_t whole);
void count_tokens(Dataset& set, const Example& sample);

void drop_row(Dataset& set, const Row& row, const std::string& why);

// "12 rows"
std::string rows_text(int64_t n);

}  // namespace loraine
