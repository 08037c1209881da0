// By kind; rows by the sets whose weights they are normalised with.
#include "loraine/model/norm.h"

#include "loraine/kernels/norms/layer_norm.h"
#include "loraine/kernels/norms/rms_norm.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

// One kind of statistic of some rows, [T].
Tensor statistic(const Tensor& statistics, int64_t which, int64_t first, int64_t count) {
  return Tensor(statistics.row_range(which, 1).col_range(first, count).data, Dtype::F32, {count});
}

// That of columns [slice · C, (slice + 1) · C), where a vector has more than C.
Tensor piece(const Tensor& vector, int64_t slice, int64_t columns) {
  if (!vector.data || vector.numel() == columns) return vector;
  return Tensor(vector.f32() + slice * columns, Dtype::F32, {columns});
}

}  // namespace

Norm place_norm(Placement& placement, const NormConfig& config, const std::string& path, const std::vector<int64_t>& shape) {
  Norm norm{config, {}, {}};
  if (config.kind == NormKind::none) return norm;
  if (config.has_weight) placement.vector(norm.weight, path + ".weight", shape);
  if (config.has_bias) placement.vector(norm.bias, path + ".bias", shape);
  return norm;
}

void add_parts(Parts& parts, Norm& norm) {
  if (!norm) return;
  if (norm.config.has_weight) parts.vectors.push_back(&norm.weight);
  if (norm.config.has_bias) parts.vectors.push_back(&norm.bias);
}

void norm_forward(const Step& s, const Norm& norm, const Tensor& y, const Tensor& statistics, const Tensor& x, int64_t slice) {
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    const Tensor weight = piece(vector_of(set, norm.weight), slice, x.cols()), out = y.row_range(first, count),
                 in = x.row_range(first, count), scale = statistic(statistics, 0, first, count);
    if (norm.config.kind == NormKind::rms) return rms_norm(s.ctx, out, scale, in, weight, norm.config.eps, norm.config.offset);
    layer_norm(s.ctx, out, statistic(statistics, 1, first, count), scale, in, weight, piece(vector_of(set, norm.bias), slice, x.cols()),
               norm.config.eps, norm.config.offset);
  });
}

void norm_rebuild(const Step& s, const Norm& norm, const Tensor& y, const Tensor& x, const Tensor& statistics, int64_t slice) {
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    const Tensor weight = piece(vector_of(set, norm.weight), slice, x.cols()), out = y.row_range(first, count),
                 in = x.row_range(first, count), scale = statistic(statistics, 0, first, count);
    if (norm.config.kind == NormKind::rms) return rms_norm_rebuild(s.ctx, out, in, scale, weight, norm.config.offset);
    layer_norm_rebuild(s.ctx, out, in, statistic(statistics, 1, first, count), scale, weight,
                       piece(vector_of(set, norm.bias), slice, x.cols()), norm.config.offset);
  });
}

void norm_backward(const Step& s, const Norm& norm, const AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x,
                   const Tensor& statistics, bool accumulate, int64_t slice) {
  const DenseSet* set = trained.dense.get();
  const int64_t rows = x.rows();
  const Tensor scale = statistic(statistics, 0, 0, rows), weight = piece(vector_of(set, norm.weight), slice, x.cols()),
               d_weight = piece(gradient_of(set, norm.weight), slice, x.cols()),
               d_bias = piece(gradient_of(set, norm.bias), slice, x.cols());
  if (d_bias.data) bias_gradient(s.ctx, d_bias, d_y);
  if (norm.config.kind == NormKind::rms) {
    if (d_weight.data) norm_weight_gradient(s.ctx, d_weight, d_y, x, scale);
    if (d_x.data) rms_norm_backward(s.ctx, d_x, d_y, x, scale, weight, accumulate, norm.config.offset);
    return;
  }
  const Tensor mean = statistic(statistics, 1, 0, rows);
  if (d_weight.data) layer_norm_weight_gradient(s.ctx, d_weight, d_y, x, mean, scale);
  if (d_x.data) layer_norm_backward(s.ctx, d_x, d_y, x, mean, scale, weight, norm.config.offset, accumulate);
}

bool trains(const AdapterSet& set, const Norm& norm) {
  return gradient_of(set.dense.get(), norm.weight).data || gradient_of(set.dense.get(), norm.bias).data;
}

}  // namespace loraine
