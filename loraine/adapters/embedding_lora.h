// LoRA on the embedding (PEFT's lora_embedding_A, lora_embedding_B): y[t] += s · B A[:, token t]. A [r, V] starts at zero, B [C, r] with
// N(0, 1). Called by model/decoder where a set has one.
#pragma once
#include <span>

#include "loraine/adapters/adapter.h"

namespace loraine {

class EmbeddingLora {
 public:
  EmbeddingLora(std::string name, int64_t vocab, int64_t hidden, int64_t r, float scale, bool trained);
  int64_t r() const { return a_.rows(); }
  // y [T, C] F32 += s · B A[:, tokens]
  void forward(Context& ctx, const Tensor& y, std::span<const int32_t> tokens, Arena& scratch) const;
  // Adds to the gradients of A and B. d_y [T, C] F32.
  void backward(Context& ctx, const Tensor& d_y, std::span<const int32_t> tokens, Arena& scratch);
  std::vector<Parameter> parameters() const;
  void initialize(uint64_t seed);
  // table [V, C] F32 += s · (B A)ᵀ
  void merge_into(Context& ctx, const Tensor& table) const;
  MergeRow exact_merge() const;                      // a row is a token's
  const std::string& name() const { return name_; }  // module path

 private:
  std::string name_;
  float scale_;
  Buffer memory_;
  Tensor a_, b_, d_a_, d_b_;  // [r, V], [C, r]
};

}  // namespace loraine
