// Texts to windows, windows to losses.
#include "loraine/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_lines.h"
#include "loraine/train/evaluation/evaluate.h"

namespace loraine {

std::vector<Text> read_texts(const std::string& file, const Tokenizer& tokenizer) {
  std::vector<Text> texts;
  const auto add = [&](const std::string& text) {
    texts.push_back({tokenizer.encode(text, true), text.size()});
    if (texts.back().ids.size() < 2) texts.pop_back();  // nothing to predict
  };
  if (file.ends_with(".jsonl") || file.ends_with(".json"))
    for (const JsonRow& row : read_json_rows(file)) add(text_field(row, {"text"}));
  else add(read_file(file));
  if (texts.empty()) throw Error(ErrorKind::bad_data, file + ": holds no text of two tokens or more");
  return texts;
}

std::vector<Example> sliding_windows(const std::vector<Text>& texts, int64_t window, int64_t stride) {
  std::vector<Example> windows;
  for (const Text& text : texts) {
    const auto n = static_cast<int64_t>(text.ids.size());
    int64_t counted = 1;  // tokens whose loss is taken, or that have none
    for (int64_t begin = 0; counted < n; begin += stride) {
      const int64_t end = std::min(begin + window, n);
      std::vector<int32_t> ids(text.ids.begin() + begin, text.ids.begin() + end), labels = ids;
      std::fill(labels.begin(), labels.begin() + (counted - begin), kIgnoreLabel);
      windows.push_back({std::move(ids), std::move(labels)});
      counted = end;
    }
  }
  return windows;
}

void measure_perplexity(const Subject& subject, const std::vector<Text>& texts, int64_t window, int64_t stride, int64_t batch_size,
                        EvalResult& result) {
  const std::vector<Example> windows = sliding_windows(texts, window, stride);
  Forward forward(subject, rows_of_largest_batch(windows, batch_size));
  const auto total = static_cast<int64_t>(windows.size());
  const EvalSums sums = forward.evaluate(windows, batch_size, [&](int64_t done) { subject.progress("perplexity", done, total); });
  Figure perplexity{.name = "ppl_perplexity", .exponential = true, .lowest = 1}, loss{.name = "ppl_loss", .lowest = 0};
  double nats = 0, bytes = 0;
  int64_t tokens = 0;
  for (const SequenceLoss& one : sums.examples) {
    perplexity.add(one.loss, static_cast<double>(one.labels));
    nats += one.loss;
    tokens += one.labels;
  }
  for (const Text& text : texts) bytes += static_cast<double>(text.bytes);
  loss.sums = perplexity.sums;
  loss.weights = perplexity.weights;
  add_figure(result, std::move(perplexity));
  add_figure(result, std::move(loss));
  result.metrics["ppl_bits_per_byte"] = nats / std::numbers::ln2 / bytes;
  result.metrics["ppl_tokens"] = tokens;
}

}  // namespace loraine
