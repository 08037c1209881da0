// The columns of encoded sets on disk, by stage, and examples in them. Used by prepared.cpp only.
#pragma once
#include <nlohmann/json.hpp>
#include <vector>

#include "loraine/data/arrow/arrow.h"
#include "loraine/data/arrow/arrow_writer.h"
#include "loraine/data/dataset.h"
#include "loraine/data/encode/row_encoder.h"

namespace loraine {

// As LLaMA-Factory writes them: ids, masks and labels, for packed sets positions too, whose masks number the samples where they lie apart.
std::vector<ArrowWriteColumn> prepared_columns(DataStage stage, bool packed, bool apart);
nlohmann::ordered_json features_json(const std::vector<ArrowWriteColumn>& columns);

// A row of such columns.
void write_example(ArrowWriter& writer, DataStage stage, const Example& example, bool packed, bool apart);
void write_pair(ArrowWriter& writer, const PairExample& pair);
void write_feedback(ArrowWriter& writer, const FeedbackExample& feedback);

// Finds the columns that the stage reads; throws usage where the set is of another one.
class PreparedColumns {
 public:
  PreparedColumns(const std::vector<ArrowField>& fields, DataStage stage, const Encoder& encoder);
  void add_row(const ArrowBatch& batch, int64_t row, Dataset& set) const;

 private:
  Example sample(const ArrowBatch& batch, int64_t row, const std::string& prefix) const;
  std::vector<int32_t> list(const ArrowBatch& batch, int64_t row, const std::string& name) const;
  size_t find(const std::string& name) const;
  void restore_samples(const ArrowBatch& batch, int64_t row, Example& example) const;
  const std::vector<ArrowField>& fields_;
  DataStage stage_;
  const Encoder& encoder_;
  bool packed_;
};

}  // namespace loraine
