// See prepared_columns.h.
#include "loraine/data/examples/prepared_columns.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/batch.h"
#include "loraine/data/encode/make_examples.h"
#include "loraine/data/encode/pretrain.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
constexpr size_t kAbsent = SIZE_MAX;

struct DtypeName {
  ArrowType type;
  const char* name;
};
constexpr DtypeName kNames[] = {{ArrowType::null, "null"},
                                {ArrowType::boolean, "bool"},
                                {ArrowType::int8_list, "int8"},
                                {ArrowType::int32_list, "int32"},
                                {ArrowType::int64_list, "int64"}};

std::vector<int32_t> ones(const Example& example) { return std::vector<int32_t>(example.input_ids.size(), 1); }

void write_sample(ArrowWriter& writer, size_t first, const Example& example) {
  writer.add(first, example.input_ids);
  writer.add(first + 1, ones(example));
  writer.add(first + 2, example.labels);
}

}  // namespace

std::vector<ArrowWriteColumn> prepared_columns(DataStage stage, bool packed, bool apart) {
  std::vector<ArrowWriteColumn> columns;
  const auto sample = [&](const std::string& prefix) {
    columns.push_back({prefix + "input_ids", ArrowType::int32_list});
    columns.push_back({prefix + "attention_mask", apart ? ArrowType::int64_list : ArrowType::int8_list});
    if (packed) columns.push_back({prefix + "position_ids", ArrowType::int64_list});
    if (stage != DataStage::pretraining) columns.push_back({prefix + "labels", ArrowType::int64_list});
  };
  if (stage == DataStage::pairs) {
    sample("chosen_");
    sample("rejected_");
  } else {
    sample("");
  }
  if (stage == DataStage::feedback) {
    sample("kl_");
    columns.push_back({"kto_tags", ArrowType::boolean});
  }
  if (stage != DataStage::pretraining)
    for (const char* media : {"images", "videos", "audios"}) columns.push_back({media, ArrowType::null});
  return columns;
}

OrderedJson features_json(const std::vector<ArrowWriteColumn>& columns) {
  OrderedJson features = OrderedJson::object();
  for (const ArrowWriteColumn& column : columns) {
    const auto* name = std::find_if(std::begin(kNames), std::end(kNames), [&](const DtypeName& n) { return n.type == column.type; });
    const OrderedJson value = {{"dtype", name->name}, {"_type", "Value"}};
    const bool list = column.type != ArrowType::null && column.type != ArrowType::boolean;
    features[column.name] = list ? OrderedJson{{"feature", value}, {"_type", "List"}} : value;
  }
  return features;
}

void write_example(ArrowWriter& writer, DataStage stage, const Example& example, bool packed, bool apart) {
  size_t column = 0;
  writer.add(column++, example.input_ids);
  std::vector<int32_t> mask = ones(example), positions(example.input_ids.size(), 0);
  const auto end = example.input_ids.size() - static_cast<size_t>(example.padding);
  for (size_t sample = 0; sample < std::max<size_t>(example.starts.size(), 1); ++sample) {
    const size_t first = example.starts.empty() ? 0 : static_cast<size_t>(example.starts[sample]);
    const size_t last = sample + 1 < example.starts.size() ? static_cast<size_t>(example.starts[sample + 1]) : end;
    for (size_t i = first; i < last; ++i) {
      positions[i] = static_cast<int32_t>(i - first);
      if (apart) mask[i] = static_cast<int32_t>(sample + 1);
    }
  }
  if (apart) std::fill(mask.begin() + static_cast<std::ptrdiff_t>(end), mask.end(), 0);
  writer.add(column++, mask);
  if (packed) writer.add(column++, positions);
  if (stage != DataStage::pretraining) writer.add(column++, example.labels);
  writer.end_row();
}

void write_pair(ArrowWriter& writer, const PairExample& pair) {
  write_sample(writer, 0, pair.chosen);
  write_sample(writer, 3, pair.rejected);
  writer.end_row();
}

void write_feedback(ArrowWriter& writer, const FeedbackExample& feedback) {
  write_sample(writer, 0, feedback.example);
  write_sample(writer, 3, feedback.kl);
  writer.add(6, feedback.desirable);
  writer.end_row();
}

PreparedColumns::PreparedColumns(const std::vector<ArrowField>& fields, DataStage stage, const Encoder& encoder)
    : fields_(fields), stage_(stage), encoder_(encoder), packed_(find("position_ids") != kAbsent) {
  DataStage found = DataStage::sft;
  if (find("chosen_input_ids") != kAbsent) found = DataStage::pairs;
  else if (find("kl_input_ids") != kAbsent) found = DataStage::feedback;
  else if (find("input_ids") == kAbsent) throw Error(ErrorKind::bad_data, "it has no column input_ids", "prepare the data anew");
  else if (find("labels") == kAbsent) found = DataStage::pretraining;
  if (found != stage)
    throw Error(ErrorKind::usage,
                fmt::format("these data were prepared for stage {}, and this is another", found == DataStage::pairs         ? "dpo or rm"
                                                                                          : found == DataStage::feedback    ? "kto"
                                                                                          : found == DataStage::pretraining ? "pt"
                                                                                                                            : "sft"),
                "set the stage, or prepare the data anew in another folder");
}

size_t PreparedColumns::find(const std::string& name) const {
  const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const ArrowField& field) { return field.name == name; });
  return found == fields_.end() ? kAbsent : static_cast<size_t>(found - fields_.begin());
}

std::vector<int32_t> PreparedColumns::list(const ArrowBatch& batch, int64_t row, const std::string& name) const {
  const size_t at = find(name);
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::bad_data, fmt::format("row {}: {} {}", row, name, what), "prepare the data anew");
  };
  if (at == kAbsent) refuse("is absent");
  const ArrowColumn& column = batch.columns[at];
  const bool lists = column.field->kind == ArrowKind::list || column.field->kind == ArrowKind::fixed_list;
  if (!lists || column.children[0].field->kind != ArrowKind::integer || column.is_null(row)) refuse("is no list of whole numbers");
  const ArrowColumn& items = column.children[0];
  const auto [first, last] = column.range(row);
  std::vector<int32_t> values;
  values.reserve(static_cast<size_t>(last - first));
  for (int64_t i = first; i < last; ++i) {
    const int64_t value = items.is_null(i) ? INT64_MIN : items.integer(i);
    if (value < INT32_MIN || value > INT32_MAX) refuse("holds what is no 32-bit number");
    values.push_back(static_cast<int32_t>(value));
  }
  return values;
}

// Samples of a packed row: by the numbers of the mask, else by positions that begin anew. What neither counts is padding at the end.
void PreparedColumns::restore_samples(const ArrowBatch& batch, int64_t row, Example& example) const {
  const std::vector<int32_t> positions = list(batch, row, "position_ids"), mask = list(batch, row, "attention_mask");
  size_t end = example.input_ids.size();
  if (positions.size() != end || mask.size() != end)
    throw Error(ErrorKind::bad_data, fmt::format("row {}: masks and positions are not as long as input_ids", row), "prepare the data anew");
  while (end > 0 && mask[end - 1] == 0) --end;
  const bool apart = end < mask.size() || std::any_of(mask.begin(), mask.end(), [](int32_t number) { return number > 1; });
  if (!apart)
    while (end > 1 && positions[end - 1] == 0 && example.labels[end - 1] == kIgnoreLabel) --end;
  example.padding = static_cast<int32_t>(example.input_ids.size() - end);
  example.sees_all = !apart;
  std::vector<int32_t> starts;
  for (size_t i = 0; i < end; ++i)
    if (positions[i] == 0) starts.push_back(static_cast<int32_t>(i));
  example.starts = std::move(starts);
  if (example.starts.empty() || example.starts[0] != 0)
    throw Error(ErrorKind::bad_data, fmt::format("row {}: position_ids do not begin with 0", row), "prepare the data anew");
}

Example PreparedColumns::sample(const ArrowBatch& batch, int64_t row, const std::string& prefix) const {
  Example example;
  example.input_ids = list(batch, row, prefix + "input_ids");
  if (stage_ == DataStage::pretraining) {
    example = trained_example(example.input_ids, encoder_.special->pad);
  } else {
    example.labels = list(batch, row, prefix + "labels");
  }
  if (example.labels.size() != example.input_ids.size())
    throw Error(ErrorKind::bad_data, fmt::format("row {}: {} labels for {} ids", row, example.labels.size(), example.input_ids.size()),
                "prepare the data anew");
  for (size_t i = 0; i < example.input_ids.size(); ++i) {
    const int32_t id = example.input_ids[i], label = example.labels[i];
    const bool sound = id >= 0 && (label >= 0 || label == kIgnoreLabel);
    const int64_t most = encoder_.vocab_size > 0 ? encoder_.vocab_size : INT32_MAX;
    if (!sound || id >= most || label >= most)
      throw Error(ErrorKind::bad_data,
                  fmt::format("row {}: token {} is {} with the label {}, the model's vocabulary has {}", row, i, id, label, most),
                  "were the data prepared with another model's tokenizer?");
  }
  if (packed_ && prefix.empty() && stage_ == DataStage::sft && !example.input_ids.empty()) restore_samples(batch, row, example);
  return example;
}

void PreparedColumns::add_row(const ArrowBatch& batch, int64_t row, Dataset& set) const {
  if (stage_ == DataStage::pairs) {
    set.pairs.push_back({sample(batch, row, "chosen_"), sample(batch, row, "rejected_")});
    count_sample(set, count_of(set.pairs.back().chosen), 0);
    count_tokens(set, count_of(set.pairs.back().rejected));
    return;
  }
  Example example = sample(batch, row, "");
  if (example.input_ids.empty()) return;
  count_sample(set, count_of(example), 0);
  if (!example.starts.empty()) set.num_samples += static_cast<int64_t>(example.starts.size()) - 1;
  if (stage_ == DataStage::feedback) {
    const size_t tag = find("kto_tags");
    if (tag == kAbsent || batch.columns[tag].field->kind != ArrowKind::boolean || batch.columns[tag].is_null(row))
      throw Error(ErrorKind::bad_data, fmt::format("row {}: kto_tags is neither true nor false", row), "prepare the data anew");
    set.feedback.push_back({std::move(example), sample(batch, row, "kl_"), batch.columns[tag].integer(row) != 0});
  } else {
    set.examples.push_back(std::move(example));
  }
}

}  // namespace loraine
