// DoRA's part of gpu_decoder (adapters/dora.h has its formulas). What the backward needs of the product before the magnitudes is computed
// once more, and not kept.
#include "loraine/kernels/rows/columns_cuda.h"
#include "loraine/model/gpu/gpu_decoder.h"

namespace loraine {

// n and m / n of all sites, after values have changed.
void GpuDecoder::refresh(const GpuAdapter& adapter) {
  if (!adapter.has_dora() || !adapter.take_stale()) return;
  for (const auto& layer : model_.layers)
    for (const GpuBranch& branch : layer)
      for (const GpuSite* site : {&branch.in, &branch.out}) {
        const GpuLora* lora = adapter.at(site->index);
        if (!lora || !lora->dora()) continue;
        const Tensor w = weight_of(*site);
        row_squares_cuda(stream_, lora->squares, w);
        for (const GpuLoraPart& part : lora->parts) {
          const Tensor a = lora->a.row_range(part.rank_offset, part.r);
          float* room = adapter.dora_room();
          const Tensor w_a(room, Dtype::F32, {part.out, part.r}), b_a_a(room + w_a.numel(), Dtype::F32, {part.out, part.r}),
              a_a(room + 2 * w_a.numel(), Dtype::F32, {part.r, part.r});
          thin(ProductForm::nt, w_a, w.row_range(part.offset, part.out), a, 1, false);
          thin(ProductForm::nt, a_a, a, a, 1, false);
          thin(ProductForm::nn, b_a_a, part.b, a_a, 1, false);
          sum_norms_cuda(stream_,
                         {lora->norm + part.offset, lora->factor + part.offset, lora->factor_less_one + part.offset,
                          lora->squares + part.offset, w_a.f32(), part.b.f32(), b_a_a.f32(), part.magnitude.f32(), part.scale},
                         part.out, part.r);
        }
      }
}

// y holds W x without a bias; rows [start, …) of the batch.
void GpuDecoder::dora_forward(const Tensor& y, int64_t start, const Tensor& w, const GpuLora& lora, const Tensor& columns) {
  const auto times = [&](const Tensor& x, const float* factors, bool accumulate) {
    for (const GpuLoraPart& part : lora.parts)
      scale_columns_cuda(stream_, y.col_range(part.offset, part.out), x.col_range(part.offset, part.out), factors + part.offset,
                         accumulate);
  };
  if (!training_ || lora.dropout == 0) {
    add_low_rank(y, columns, lora, true);
    return times(y, lora.factor, false);
  }
  const Tensor dropped = adapter_x_.row_range(start, y.rows()).col_range(0, w.cols());  // as A saw it
  const Tensor z = dora_z_.row_range(start, y.rows()).col_range(0, y.cols());
  gemm_->multiply(stream_, ProductForm::nt, z, dropped, w);
  times(z, lora.factor_less_one, true);
  add_low_rank(z, columns, lora, false);
  times(z, lora.factor, true);
}

// linear_backward of a site with DoRA.
void GpuDecoder::dora_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& w, const GpuLora& lora,
                               const Tensor& columns) {
  const bool drops = training_ && lora.dropout > 0;
  const Tensor z = now(dora_z_).col_range(0, d_y.cols()), t = now(adapter_x_).col_range(0, drops ? x.cols() : 0);
  if (drops) dropout_cuda(stream_, t, x, lora.dropout, batch_.dropout(), lora.site);
  const Tensor& seen = drops ? t : x;
  gemm_->multiply(stream_, ProductForm::nt, z, seen, w);
  add_low_rank(z, columns, lora, true);
  for (const GpuLoraPart& part : lora.parts)
    column_dots_cuda(stream_, part.d_magnitude.f32(), d_y.col_range(part.offset, part.out), z.col_range(part.offset, part.out),
                     lora.norm + part.offset, dora_partial_);
  const auto d_z = [&](const float* factors) {  // in the place of z; columns without an adapter stay as they are
    for (const GpuLoraPart& part : lora.parts)
      scale_columns_cuda(stream_, z.col_range(part.offset, part.out), d_y.col_range(part.offset, part.out), factors + part.offset, false);
  };
  convert_rows_cuda(stream_, z, d_y);
  d_z(lora.factor);
  const Tensor g = low_rank_backward(z, columns, lora);
  thin(ProductForm::tn, lora.d_a, g, seen, 1, true);
  if (!d_x.data) return;
  if (!drops) {
    gemm_->multiply(stream_, ProductForm::nn, d_x, z, w);
    return thin(ProductForm::nn, d_x, g, lora.a, 1, true);
  }
  stream_.fill(dora_z_.data, 0, dora_z_.bytes());
  d_z(lora.factor_less_one);
  gemm_->multiply(stream_, ProductForm::nn, d_x, d_y, w);
  gemm_->multiply(stream_, ProductForm::nn, t, z, w);
  thin(ProductForm::nn, t, g, lora.a, 1, true);
  dropout_cuda(stream_, t, t, lora.dropout, batch_.dropout(), lora.site);
  add_cuda(stream_, d_x, d_x, t);
}

}  // namespace loraine
