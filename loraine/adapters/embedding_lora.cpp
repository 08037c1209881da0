// Look-up of columns of A, products with B, and the way back.
#include "loraine/adapters/embedding_lora.h"

#include <memory>
#include <random>

#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/training/dense_gradients.h"

namespace loraine {

EmbeddingLora::EmbeddingLora(std::string name, int64_t vocab, int64_t hidden, int64_t r, float scale, bool trained)
    : name_(std::move(name)), scale_(scale) {
  const int64_t elements = r * (vocab + hidden);
  memory_ = Buffer(static_cast<size_t>(elements) * sizeof(float) * (trained ? 2 : 1), true);
  float* next = static_cast<float*>(memory_.data());
  a_ = Tensor(next, Dtype::F32, {r, vocab});
  b_ = Tensor(next + r * vocab, Dtype::F32, {hidden, r});
  if (!trained) return;
  d_a_ = Tensor(next + elements, Dtype::F32, {r, vocab});
  d_b_ = Tensor(next + elements + r * vocab, Dtype::F32, {hidden, r});
}

void EmbeddingLora::forward(Context& ctx, const Tensor& y, std::span<const int32_t> tokens, Arena& scratch) const {
  const size_t mark = scratch.mark();
  const Tensor h = scratch.take(Dtype::F32, {y.rows(), r()});
  column_lookup(ctx, h, a_, tokens);
  matmul_nt(ctx, y, h, b_, scale_, 1);
  scratch.release(mark);
}

void EmbeddingLora::backward(Context& ctx, const Tensor& d_y, std::span<const int32_t> tokens, Arena& scratch) {
  const size_t mark = scratch.mark();
  const Tensor h = scratch.take(Dtype::F32, {d_y.rows(), r()});
  column_lookup(ctx, h, a_, tokens);
  matmul_tn(ctx, d_b_, d_y, h, scale_, 1);
  matmul_nn(ctx, h, d_y, b_, scale_, 0);
  column_lookup_backward(ctx, d_a_, h, tokens);
  scratch.release(mark);
}

std::vector<Parameter> EmbeddingLora::parameters() const {
  const std::string prefix = "base_model.model." + name_;
  return {{prefix + ".lora_embedding_A", a_, d_a_}, {prefix + ".lora_embedding_B", b_, d_b_}};
}

void EmbeddingLora::initialize(uint64_t seed) {
  std::mt19937_64 random(seed ^ 0x656d626564ull);
  std::normal_distribution<float> normal(0, 1);
  for (int64_t i = 0; i < b_.numel(); ++i) b_.f32()[i] = normal(random);
}

void EmbeddingLora::merge_into(Context& ctx, const Tensor& table) const {
  Buffer memory(b_.bytes());  // Bᵀ [r, C]
  const Tensor b_t(memory.data(), Dtype::F32, {r(), b_.rows()});
  for (int64_t c = 0; c < b_.rows(); ++c)
    for (int64_t i = 0; i < r(); ++i) b_t.f32()[i * b_.rows() + c] = b_.f32()[c * r() + i];
  matmul_tn(ctx, table, a_, b_t, scale_, 1);
}

MergeRow EmbeddingLora::exact_merge() const {
  const int64_t columns = b_.rows(), ranks = r();
  auto b_t = std::make_shared<std::vector<float>>(static_cast<size_t>(b_.numel()));  // Bᵀ [r, C]
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t k = 0; k < ranks; ++k) (*b_t)[static_cast<size_t>(k * columns + c)] = b_.f32()[c * ranks + k];
  const ExactProduct product(Tensor(b_t->data(), Dtype::F32, {ranks, columns}), static_cast<double>(scale_));
  return [b_t, product, a = a_](std::span<double> w, int64_t row) { return product.add(w, a.f32() + row, a.row_stride); };
}

}  // namespace loraine
