// The labels of a question as a tree of tokens: at which places the model is looked at, what their log-probabilities are, and the way back
// from those to logits. Used by serving, by the objective of stage decision and by evaluation.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace loraine {

struct LabelShares {
  std::vector<double> probabilities;  // of the labels, together 1
  double mass = 0;                    // what the labels have of the whole vocabulary
  size_t likeliest = 0;
  bool calibrated = false;  // by a temperature that was fitted: how often such an answer is right
  double confidence() const { return calibrated ? probabilities[likeliest] : probabilities[likeliest] * mass; }
};

// A softmax of log-probabilities over `temperature`.
std::vector<double> shares_of(std::span<const double> logprobs, double temperature = 1);

// The longest beginnings of labels behind which one goes on: together they hold all of them; of labels of one token each a single, empty
// one.
std::vector<std::vector<int32_t>> label_beginnings(const std::vector<std::vector<int32_t>>& labels);

// The places behind a prompt at which a label goes on, and with what: for labels of one token each a single place.
class LabelTree {
 public:
  explicit LabelTree(const std::vector<std::vector<int32_t>>& labels);         // none begins another
  const std::vector<std::vector<int32_t>>& places() const { return places_; }  // ids behind the prompt; the first one is empty
  // Logits [V] behind a place. For different places from different threads.
  void tell(size_t place, std::span<const float> logits);
  // Once all places are told. A label of several tokens counts as the product of theirs.
  std::vector<double> logprobs() const;
  LabelShares shares(std::optional<double> temperature = {}) const;  // one that was fitted
  // logits [V] behind a place become the gradient of Σ d[label] · logprobs()[label] by them. Σ d is 0, as of all functions of shares.
  void backward(size_t place, std::span<float> logits, std::span<const double> d) const;

 private:
  std::vector<std::vector<int32_t>> labels_, places_;
  std::vector<std::vector<std::pair<size_t, int32_t>>> next_;  // of each place: labels that go through it, and their next id
  std::vector<std::vector<double>> logprobs_;                  // beside next_
};

}  // namespace loraine
