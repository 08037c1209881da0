// Four rows of y against all rows of w, a vector of columns at a time; compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/products/rank_update.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/rank_update.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "loraine/kernels/base/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

template <class T, int kRows>
HWY_INLINE void update_rows(T* y, int64_t y_stride, const float* p, int64_t K, const float* w, int64_t w_stride, int64_t n, float beta) {
  const D d;
  for_vectors(n, [&](int64_t c, auto access) {
    V sum[kRows];
    for (int i = 0; i < kRows; ++i) sum[i] = beta == 0 ? hn::Zero(d) : hn::Mul(hn::Set(d, beta), access.load(y + i * y_stride + c));
    for (int64_t k = 0; k < K; ++k) {
      const V wk = access.load(w + k * w_stride + c);
      for (int i = 0; i < kRows; ++i) sum[i] = hn::MulAdd(hn::Set(d, p[i * K + k]), wk, sum[i]);
    }
    for (int i = 0; i < kRows; ++i) access.store(sum[i], y + i * y_stride + c);
  });
}

template <class T>
HWY_INLINE void update(T* y, int64_t y_stride, int64_t rows, const float* p, int64_t K, const float* w, int64_t w_stride, int64_t n,
                       float beta) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) update_rows<T, 4>(y + m * y_stride, y_stride, p + m * K, K, w, w_stride, n, beta);
  for (; m < rows; ++m) update_rows<T, 1>(y + m * y_stride, y_stride, p + m * K, K, w, w_stride, n, beta);
}

void RankUpdate(void* y, Dtype type, int64_t y_stride, int64_t rows, const float* p, int64_t K, const float* w, int64_t w_stride, int64_t n,
                float beta) {
  if (type == Dtype::F32) update(static_cast<float*>(y), y_stride, rows, p, K, w, w_stride, n, beta);
  else update(static_cast<bf16*>(y), y_stride, rows, p, K, w, w_stride, n, beta);
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(RankUpdate);

void rank_update(const Tensor& y, const Tensor& p, const Tensor& w, float beta) {
  HWY_DYNAMIC_DISPATCH(RankUpdate)(y.data, y.dtype, y.row_stride, y.rows(), p.f32(), p.cols(), w.f32(), w.row_stride, y.cols(), beta);
}

}  // namespace loraine
#endif
