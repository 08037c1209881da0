// The head of a reward model: a number for each state of the last layer, and its file as LLaMA-Factory (trl) names it. Called by the
// objective of stage rm, by evaluation and by export.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/core/context.h"

namespace loraine {

inline constexpr const char* kValueHeadFile = "value_head.safetensors";

class ValueHead {
 public:
  explicit ValueHead(int64_t hidden_size);
  void start(uint64_t seed);                      // nn.Linear's start: both uniform within ±1/√C
  bool read_if_there(const std::string& folder);  // value_head.safetensors or .bin; bad_data where it is for another model
  void read(const std::string& folder);           // bad_data where there is none
  void write(const std::string& folder) const;
  std::vector<Parameter> parameters() const;  // "v_head.summary.bias" [1] and "v_head.summary.weight" [1, C], with gradients

  int64_t channels() const { return weight_.cols(); }
  double score(const float* state) const;  // state [C]
  // Adds d · state to the gradients; d_state [C] = d · weight.
  void backward(const float* state, double d, float* d_state);

 private:
  Buffer memory_;
  Tensor weight_, bias_, d_weight_, d_bias_;
};

// The path of a folder's, where it has one.
std::optional<std::string> value_head_file(const std::string& folder);

// That of a folder; nullptr where there is none.
std::shared_ptr<const ValueHead> value_head_beside(const std::string& folder, int64_t hidden_size);

}  // namespace loraine
