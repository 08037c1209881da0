// Where A lies by expert already, it and its factor are one piece of memory.
#include "loraine/adapters/expert_lora.h"

#include <algorithm>
#include <random>

#include "loraine/adapters/fill_values.h"
#include "loraine/core/error.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {

ExpertLora::ExpertLora(ExpertLoraShape shape, bool trained) : shape_(std::move(shape)), trained_(trained) {
  const ExpertLoraShape& s = shape_;
  const int64_t down = s.experts * s.r * s.in, up = s.experts * s.out * s.r;
  const int64_t each = (s.a_gives_output ? 2 : 1) * down + 2 * up;
  memory_ = Buffer(static_cast<size_t>(each * (trained_ ? 2 : 1)) * sizeof(float), true);
  float* next = static_cast<float*>(memory_.data());
  const auto take = [&](std::initializer_list<int64_t> sizes) {
    const Tensor t(next, Dtype::F32, sizes);
    next += t.numel();
    return t;
  };
  const auto place = [&](Tensor& a, Tensor& b, ExpertFactors& factors) {
    a = take({s.experts * s.r, s.a_gives_output ? s.out : s.in});
    b = take({s.a_gives_output ? s.in : s.out, s.r * s.experts});
    factors.down = s.a_gives_output ? take({s.experts, s.r, s.in}) : Tensor(a.data, Dtype::F32, {s.experts, s.r, s.in});
    factors.up = take({s.experts, s.out, s.r});
    factors.scale = s.scale;
  };
  place(a_, b_, factors_);
  if (trained_) place(d_a_, d_b_, gradients_);
}

std::vector<Parameter> ExpertLora::parameters() const {
  return {{shape_.key + ".lora_A.weight", a_, d_a_}, {shape_.key + ".lora_B.weight", b_, d_b_}};
}

void ExpertLora::refresh() { expert_factors_from_peft(factors_, a_, b_, shape_.a_gives_output); }

void ExpertLora::finish_gradients() {
  expert_factors_to_peft(d_a_, d_b_, gradients_, shape_.a_gives_output);
  std::fill_n(gradients_.up.f32(), gradients_.up.numel(), 0.0f);
  if (gradients_.down.data != d_a_.data) std::fill_n(gradients_.down.f32(), gradients_.down.numel(), 0.0f);
}

void ExpertLora::take_factors(const ExpertFactors& factors) {
  std::copy_n(factors.down.f32(), factors.down.numel(), factors_.down.f32());
  std::copy_n(factors.up.f32(), factors.up.numel(), factors_.up.f32());
  expert_factors_to_peft(a_, b_, factors_, shape_.a_gives_output);
}

void ExpertLora::take_other_order(const Tensor& a, const Tensor& b) {
  const ExpertLoraShape& s = shape_;
  const Buffer down(static_cast<size_t>(s.experts * s.r * s.in) * sizeof(float)),
      up(static_cast<size_t>(s.experts * s.out * s.r) * sizeof(float));
  const ExpertFactors factors{Tensor(down.data(), Dtype::F32, {s.experts, s.r, s.in}),
                              Tensor(up.data(), Dtype::F32, {s.experts, s.out, s.r}), 1};
  expert_factors_from_peft(factors, a, b, !s.a_gives_output);
  take_factors(factors);
}

// As torch's Linear layers begin: A within ±1/√(its columns), B at zero.
void ExpertLora::initialise(const std::string& init, std::mt19937_64& random) {
  if (init == "gaussian") fill_normal(a_, 1.0f / static_cast<float>(shape_.r), random);
  else fill_uniform(a_, a_.cols(), random);
  if (init == "false") fill_uniform(b_, b_.cols(), random);
  else std::fill_n(b_.f32(), b_.numel(), 0.0f);
  refresh();
}

void ExpertLora::merge_into(Context& ctx, const Tensor& w, int64_t e, int64_t first, bool transposed) const {
  const Tensor down = expert_matrix(factors_.down, e), up = expert_matrix(factors_.up, e);
  if (!transposed) return matmul_nn(ctx, w, up.row_range(first, w.rows()), down, shape_.scale, 1);
  const Buffer memory(static_cast<size_t>(shape_.r * w.cols()) * sizeof(float));
  const Tensor up_t(memory.data(), Dtype::F32, {shape_.r, w.cols()});
  for (int64_t k = 0; k < shape_.r; ++k)
    for (int64_t o = 0; o < w.cols(); ++o) up_t.f32()[k * w.cols() + o] = up.f32()[(first + o) * shape_.r + k];
  matmul_tn(ctx, w, down, up_t, shape_.scale, 1);
}

MergeRow ExpertLora::exact_merge(int64_t e, int64_t first, int64_t n, bool transposed) const {
  struct One {
    Buffer memory;  // of the transposed factor
    ExactProduct product;
    const float* rows;
    int64_t row_step, stride;
  };
  auto all = std::make_shared<std::vector<One>>();
  const int64_t r = shape_.r, begin = e < 0 ? 0 : e, end = e < 0 ? shape_.experts : e + 1;
  for (int64_t i = begin; i < end; ++i) {
    const Tensor down = expert_matrix(factors_.down, i), up = expert_matrix(factors_.up, i);
    if (!transposed) {
      all->push_back({Buffer(), ExactProduct(down, static_cast<double>(shape_.scale)), up.f32() + first * r, r, 1});
      continue;
    }
    Buffer memory(static_cast<size_t>(r * n) * sizeof(float));
    const Tensor up_t(memory.data(), Dtype::F32, {r, n});
    for (int64_t k = 0; k < r; ++k)
      for (int64_t o = 0; o < n; ++o) up_t.f32()[k * n + o] = up.f32()[(first + o) * r + k];
    all->push_back({std::move(memory), ExactProduct(up_t, static_cast<double>(shape_.scale)), down.f32(), 1, shape_.in});
  }
  const int64_t rows_of_one = transposed ? shape_.in : n;
  return [all, rows_of_one](std::span<double> w, int64_t row) {
    const One& one = (*all)[static_cast<size_t>(row / rows_of_one)];
    return one.product.add(w, one.rows + row % rows_of_one * one.row_step, one.stride);
  };
}

std::shared_ptr<ExpertLora> join(const std::vector<const ExpertLora*>& adapters, const std::vector<float>& weights) {
  ExpertLoraShape shape = adapters.front()->shape();
  shape.r = 0;
  shape.scale = 1;
  for (const ExpertLora* lora : adapters) shape.r += lora->shape().r;
  auto joined = std::make_shared<ExpertLora>(shape, false);
  const Buffer down(joined->factors().down.bytes()), up(joined->factors().up.bytes());
  ExpertFactors all = joined->factors();
  all.down.data = down.data();
  all.up.data = up.data();
  int64_t first = 0;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const ExpertFactors& own = adapters[i]->factors();
    const int64_t r = own.rank();
    const float scale = own.scale * weights[i];
    for (int64_t e = 0; e < shape.experts; ++e) {
      std::copy_n(own.down.f32() + e * r * shape.in, r * shape.in, all.down.f32() + (e * shape.r + first) * shape.in);
      for (int64_t o = 0; o < shape.out; ++o)
        for (int64_t k = 0; k < r; ++k)
          all.up.f32()[(e * shape.out + o) * shape.r + first + k] = scale * own.up.f32()[(e * shape.out + o) * r + k];
    }
    first += r;
  }
  joined->take_factors(all);
  return joined;
}

}  // namespace loraine
