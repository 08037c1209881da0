// See calibration_texts.h.
#include "loraine/cli/calibration_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <random>

#include "loraine/api/open_text.h"
#include "loraine/core/error.h"
#include "loraine/data/rows/rows.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/config/data_options.h"

namespace loraine {
namespace {

constexpr int64_t kMostRowsRead = 200'000, kDraws = 100;

struct RowText {
  std::string text;
  std::vector<int32_t> ids;  // of a row that is tokenized already
};

void each_text(const CalibrationText& what, const TrainConfig& config, const std::function<bool(RowText&&)>& take) {
  DatasetInfo info = find_dataset(config.dataset_dir, what.dataset, data_options(config).find_repository);
  info.stage = DataStage::pretraining;
  each_row(info, kMostRowsRead, [&](Row&& row) {
    RowText text;
    if (row.tokens) text.ids.assign(row.tokens->input_ids.begin(), row.tokens->input_ids.end());
    for (const Message& message : row.conversation.messages) text.text += message.content;
    return (text.text.empty() && text.ids.empty()) || take(std::move(text));
  });
}

class CalibrationIds {
 public:
  explicit CalibrationIds(const ModelFiles& files) : text_(open_text(files)), rows_(embedding_rows(files)) {
    if (!text_.tokenizer) throw no_tokenizer(files);
    const std::vector<int32_t> with = text_.tokenizer->encode("a", true), without = text_.tokenizer->encode("a", false);
    if (with.size() > without.size() && with.front() != without.front()) begin_ = with.front();
  }
  const std::optional<int32_t>& begin() const { return begin_; }  // the token that the tokenizer puts before a text
  std::vector<int32_t> of(const RowText& row, const std::string& dataset) const {
    std::vector<int32_t> ids = row.ids.empty() ? text_.tokenizer->encode(row.text, true) : row.ids;
    for (const int32_t id : ids)
      if (id < 0 || (rows_ > 0 && id >= rows_))
        throw Error(ErrorKind::bad_data, fmt::format("{}: token {} is outside of the model's vocabulary of {}", dataset, id, rows_),
                    "is the tokenizer the model's own?");
    return ids;
  }

 private:
  ModelText text_;
  int64_t rows_;
  std::optional<int32_t> begin_;
};

}  // namespace

std::vector<std::vector<int32_t>> calibration_windows(const CalibrationText& what, const ModelFiles& files, const TrainConfig& config) {
  const CalibrationIds encode(files);
  std::vector<RowText> rows;
  each_text(what, config, [&](RowText&& row) {
    rows.push_back(std::move(row));
    return true;
  });
  if (rows.empty()) throw Error(ErrorKind::bad_data, what.dataset + " holds no text", "give export_quantization_dataset a file of texts");
  std::mt19937_64 random(static_cast<uint64_t>(config.seed));
  std::map<size_t, std::vector<int32_t>> long_ones;
  std::map<size_t, size_t> short_ones;
  std::vector<std::vector<int32_t>> windows;
  const auto length = static_cast<size_t>(what.length);
  while (static_cast<int64_t>(windows.size()) < what.samples) {
    const std::vector<int32_t>* ids = nullptr;
    for (int64_t draw = 0; draw < kDraws && !ids; ++draw) {
      const size_t row = random() % rows.size();
      if (short_ones.contains(row)) continue;
      if (!long_ones.contains(row)) {
        std::vector<int32_t> found = encode.of(rows[row], what.dataset);
        if (found.size() <= length) {
          short_ones[row] = found.size();
          continue;
        }
        long_ones[row] = std::move(found);
      }
      ids = &long_ones[row];
    }
    if (!ids) {
      size_t longest = 0;
      for (const auto& [row, tokens] : short_ones) longest = std::max(longest, tokens);
      throw Error(
          ErrorKind::bad_data,
          fmt::format("{}: {} texts were drawn and none has more than export_quantization_maxlen = {} tokens; the longest of them has {}",
                      what.dataset, kDraws, what.length, longest),
          "lower export_quantization_maxlen, or give longer texts");
    }
    const size_t first = random() % (ids->size() - length);
    windows.emplace_back(ids->begin() + static_cast<std::ptrdiff_t>(first), ids->begin() + static_cast<std::ptrdiff_t>(first + length));
  }
  return windows;
}

std::vector<std::vector<int32_t>> calibration_chunks(const CalibrationText& what, const ModelFiles& files, const TrainConfig& config) {
  const CalibrationIds encode(files);
  std::vector<std::vector<int32_t>> chunks;
  std::vector<int32_t> rest;
  const auto length = static_cast<size_t>(what.length);
  const auto take = [&](RowText&& row) {
    const std::vector<int32_t> ids = encode.of(row, what.dataset);
    rest.insert(rest.end(), ids.begin(), ids.end());
    size_t at = 0;
    for (; rest.size() - at >= length && static_cast<int64_t>(chunks.size()) < what.samples; at += length) {
      chunks.emplace_back(rest.begin() + static_cast<std::ptrdiff_t>(at), rest.begin() + static_cast<std::ptrdiff_t>(at + length));
      if (encode.begin()) chunks.back().front() = *encode.begin();
    }
    rest.erase(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(at));
    return static_cast<int64_t>(chunks.size()) < what.samples;
  };
  std::error_code failed;
  if (what.dataset.ends_with(".txt") && std::filesystem::is_regular_file(what.dataset, failed)) {
    RowText whole{read_file(what.dataset), {}};
    if (whole.text.ends_with('\n')) whole.text.pop_back();
    take(std::move(whole));
  } else {
    each_text(what, config, take);
  }
  if (chunks.empty())
    throw Error(
        ErrorKind::bad_data,
        fmt::format("{}: its texts have {} tokens together, and export_quantization_maxlen is {}", what.dataset, rest.size(), what.length),
        "lower export_quantization_maxlen, or give more text");
  return chunks;
}

}  // namespace loraine
