// What both engines of products refuse alike, so that the emulated GPU finds what a real one would.
#include <string>

#include "loraine/core/error.h"
#include "loraine/kernels/cuda/gemm.h"

namespace loraine {

GemmShape gemm_shape(ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w) {
  const bool tn = form == ProductForm::tn;
  const GemmShape shape{y.rows(), y.cols(), tn ? x.rows() : x.cols()};
  const int64_t x_rows = tn ? shape.K : shape.M, x_cols = tn ? shape.M : shape.K;
  const int64_t w_rows = form == ProductForm::nt ? shape.N : shape.K, w_cols = form == ProductForm::nt ? shape.K : shape.N;
  if (x.rows() != x_rows || x.cols() != x_cols || w.rows() != w_rows || w.cols() != w_cols)
    throw Error(ErrorKind::internal, "gemm: y " + y.shape_text() + " of x " + x.shape_text() + " and w " + w.shape_text());
  const auto is_float = [](const Tensor& t) { return t.dtype == Dtype::F32 || t.dtype == Dtype::BF16; };
  if (x.dtype != w.dtype || !is_float(x) || !is_float(y))
    throw Error(ErrorKind::internal,
                std::string("gemm: x and w are of ") + name_of(x.dtype) + " and " + name_of(w.dtype) + ", y of " + name_of(y.dtype));
  return shape;
}

bool begin_product(GpuStream& stream, const GemmShape& shape, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate) {
  if (shape.M == 0 || shape.N == 0) return false;
  if (!stream.counts()) return stream.begins("product");
  const double flops = 2.0 * static_cast<double>(shape.M) * static_cast<double>(shape.N) * static_cast<double>(shape.K);
  const bool narrow = x.dtype == Dtype::BF16;
  stream.moves(static_cast<double>(x.bytes() + w.bytes() + (accumulate ? 2 : 1) * y.bytes()), narrow ? flops : 0, narrow ? 0 : flops);
  return stream.begins("product " + std::to_string(shape.M) + "x" + std::to_string(shape.N) + "x" + std::to_string(shape.K));
}

}  // namespace loraine
