// DoRA on top of LoRA's products.
#include "loraine/adapters/dora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/adapters/methods.h"
#include "loraine/core/error.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/rows/elementwise.h"

namespace loraine {
namespace {

constexpr int64_t kNormRows = 256;  // rows of W that are looked at together

double squares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

Tensor left_columns(Tensor saved, int64_t count) { return saved.col_range(0, count); }

}  // namespace

std::unique_ptr<Adapter> make_dora(const LoraConfig& config, SiteRequest request) {
  return std::make_unique<Dora>(request.base, std::move(request.parts), static_cast<float>(config.lora_dropout), request.site,
                                request.trained);
}

Dora::Dora(const Weight& base, std::vector<LoraPart> parts, float dropout, uint64_t site, bool trained)
    : base_(base), lora_(base.in(), std::move(parts), 0.0f, site, trained), dropout_(dropout), site_(site), trained_(trained) {
  const size_t out = static_cast<size_t>(base.out());
  for (std::vector<float>* v : {&magnitude_, &norm_, &factor_, &factor_less_one_}) v->assign(out, 0.0f);
  if (trained) d_magnitude_.assign(out, 0.0f);
  if (dropout > 0) {
    zero_.assign(out, 0.0f);
    minus_one_.assign(out, -1.0f);
  }
  for (const LoraPart& part : lora_.parts()) {
    const float* bias = base.parts[static_cast<size_t>(part.part)].bias;
    if (!bias) continue;
    bias_.resize(out);
    minus_bias_.resize(out);
    for (int64_t i = 0; i < part.out; ++i) {
      bias_[static_cast<size_t>(part.offset + i)] = bias[i];
      minus_bias_[static_cast<size_t>(part.offset + i)] = -bias[i];
    }
  }
}

void Dora::scale(Context& ctx, const Tensor& y, const Tensor& x, const std::vector<float>& factors, const float* offset,
                 bool accumulate) const {
  for (const LoraPart& part : lora_.parts())
    scale_columns(ctx, y.col_range(part.offset, part.out), x.col_range(part.offset, part.out), factors.data() + part.offset,
                  offset ? offset + part.offset : nullptr, accumulate);
}

void Dora::forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const {
  const Tensor ax = left_columns(saved, lora_.saved_width()), z = saved.col_range(lora_.saved_width(), base_.out());
  const size_t mark = scratch.mark();
  if (training && dropout_ > 0) {
    const Tensor dropped = scratch.take(x.dtype, {x.rows(), x.cols()});
    dropout(ctx, dropped, x, dropout_, site_);
    multiply_weight(ctx, z, base_, dropped, false);
    scale(ctx, y, z, minus_one_, nullptr, true);  // y − W x_d
    lora_.forward(ctx, z, dropped, ax, false, scratch);
    scale(ctx, y, z, factor_, nullptr, true);
  } else {
    if (!bias_.empty()) add_bias(ctx, y, minus_bias_.data());
    lora_.forward(ctx, y, x, ax, false, scratch);
    convert_rows(ctx, z, y);
    scale(ctx, y, y, factor_, bias_.empty() ? nullptr : bias_.data(), false);
  }
  scratch.release(mark);
}

void Dora::backward(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, Arena&) {
  throw Error(ErrorKind::internal, "DoRA has no backward apart from its base's: site_backward does both");
}

void Dora::site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved,
                         Arena& scratch) {
  const Tensor ax = left_columns(saved, lora_.saved_width()), z = saved.col_range(lora_.saved_width(), base_.out());
  const size_t mark = scratch.mark();
  for (const LoraPart& part : lora_.parts())
    column_dots(ctx, d_magnitude_.data() + part.offset, d_y.col_range(part.offset, part.out), z.col_range(part.offset, part.out),
                norm_.data() + part.offset);
  const Tensor d_z = scratch.take(d_y.dtype, {d_y.rows(), d_y.cols()});
  if (dropout_ > 0) {
    if (d_x.data) multiply_weight_backward(ctx, d_x, base, d_y, false);
    const Tensor dropped = scratch.take(x.dtype, {x.rows(), x.cols()});
    dropout(ctx, dropped, x, dropout_, site_);
    Tensor d_dropped;
    if (d_x.data) {
      d_dropped = scratch.take(d_x.dtype, {x.rows(), x.cols()});
      scale_columns(ctx, d_z, d_y, zero_.data());
      scale(ctx, d_z, d_y, factor_less_one_, nullptr, false);
      multiply_weight_backward(ctx, d_dropped, base, d_z, false);
    }
    scale(ctx, d_z, d_y, factor_, nullptr, false);
    lora_.backward(ctx, d_dropped, d_z, dropped, ax, scratch);
    if (d_x.data) {
      dropout(ctx, d_dropped, d_dropped, dropout_, site_);
      add(ctx, d_x, d_x, d_dropped);
    }
  } else {
    convert_rows(ctx, d_z, d_y);
    scale(ctx, d_z, d_y, factor_, nullptr, false);
    if (d_x.data) multiply_weight_backward(ctx, d_x, base, d_z, false);
    lora_.backward(ctx, d_x, d_z, x, ax, scratch);
  }
  scratch.release(mark);
}

std::vector<Parameter> Dora::parameters() const {
  std::vector<Parameter> all = lora_.parameters();
  for (const LoraPart& part : lora_.parts()) {
    auto vector = [&](const std::vector<float>& v) { return Tensor(const_cast<float*>(v.data()) + part.offset, Dtype::F32, {part.out}); };
    all.push_back(
        {"base_model.model." + part.name + ".lora_magnitude_vector", vector(magnitude_), trained_ ? vector(d_magnitude_) : Tensor()});
  }
  return all;
}

// n² = ‖W‖² + 2 s B·(W Aᵀ) + s² B (A Aᵀ) Bᵀ, row by row: W is read once, and no matrix of its size is made.
void Dora::refresh(Context& ctx) {
  const bool first_time = base_squares_.empty();
  if (first_time) base_squares_.resize(static_cast<size_t>(base_.out()));
  for (size_t i = 0; i < lora_.parts().size(); ++i) {
    const LoraPart& part = lora_.parts()[i];
    const WeightPart& weight = base_.parts[static_cast<size_t>(part.part)];
    const Tensor a = lora_.a(i), b = lora_.b(i);
    const int64_t r = part.r, in = base_.in(), room_rows = std::min(kNormRows, part.out);
    Buffer memory(static_cast<size_t>(room_rows * (in + 2 * r) + r * r) * sizeof(float));
    const Tensor room(memory.data(), Dtype::F32, {room_rows, in});
    const Tensor w_a(room.f32() + room.numel(), Dtype::F32, {room_rows, r}), b_a_a(w_a.f32() + w_a.numel(), Dtype::F32, {room_rows, r}),
        a_a(b_a_a.f32() + b_a_a.numel(), Dtype::F32, {r, r});
    matmul_nt(ctx, a_a, a, a);
    for (int64_t first = 0; first < part.out; first += kNormRows) {
      const int64_t count = std::min(kNormRows, part.out - first);
      const Tensor rows = weight_rows(weight, first, count, room);
      matmul_nt(ctx, w_a.row_range(0, count), rows, a);
      matmul_nn(ctx, b_a_a.row_range(0, count), b.row_range(first, count), a_a);
      for (int64_t o = 0; o < count; ++o) {
        const size_t at = static_cast<size_t>(part.offset + first + o);
        if (first_time) base_squares_[at] = squares(rows.f32() + o * rows.row_stride, in);
        const float *row = b.f32() + (first + o) * r, *w_row = w_a.f32() + o * r, *own_row = b_a_a.f32() + o * r;
        double mixed = 0, own = 0;
        for (int64_t k = 0; k < r; ++k) {
          own += static_cast<double>(own_row[k]) * static_cast<double>(row[k]);
          mixed += static_cast<double>(w_row[k]) * static_cast<double>(row[k]);
        }
        const double s = static_cast<double>(part.scale);
        norm_[at] = std::max(1e-30f, static_cast<float>(std::sqrt(std::max(0.0, base_squares_[at] + 2 * s * mixed + s * s * own))));
        factor_[at] = magnitude_[at] / norm_[at];
        factor_less_one_[at] = factor_[at] - 1;
      }
    }
  }
}

void Dora::initialise(Context& ctx, uint64_t) {
  refresh(ctx);
  magnitude_ = norm_;
  refresh(ctx);
}

void Dora::merge_into(Context& ctx, const Tensor& w, int part) const {
  lora_.merge_into(ctx, w, part);
  for (const LoraPart& p : lora_.parts()) {
    if (p.part != part) continue;
    for (int64_t o = 0; o < p.out; ++o) {
      float* row = w.f32() + o * w.row_stride;
      const float factor = static_cast<float>(static_cast<double>(magnitude_[static_cast<size_t>(p.offset + o)]) /
                                              std::max(1e-30, std::sqrt(squares(row, w.cols()))));
      for (int64_t c = 0; c < w.cols(); ++c) row[c] *= factor;
    }
  }
}

MergeRow Dora::exact_merge(int part) const {
  const auto at = std::ranges::find(lora_.parts(), part, &LoraPart::part);
  return [sum = lora_.exact_merge(part), magnitude = magnitude_.data() + at->offset](std::span<double> w, int64_t row) {
    const double error = sum(w, row);
    return rescale_row(w, static_cast<double>(magnitude[row]), error);
  };
}

}  // namespace loraine
