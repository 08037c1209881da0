// Products of whole weights on the GPU, behind one seam: cuBLASLt's on a card (nvidia/gemm.cpp, opened when the first product is asked
// for), the CPU's under emulation (emulated/gemm.cpp). Which of the two a program has is decided when it is linked. Called by model/gpu.
#pragma once
#include <memory>

#include "loraine/core/gpu.h"
#include "loraine/kernels/products/products_cuda.h"

namespace loraine {

class Gemm {
 public:
  // Throws unsupported that says which library is missing; of a stream that only counts, it opens none.
  explicit Gemm(bool only_counts = false);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;
  // y = alpha · x · w in the forms of products_cuda.h, or with accumulate y += that. x and w both F32 or both BF16, y either; sums in f32
  // (no TF32), one rounding of y. Rows may be strided; y is none of the others. Tensors lie in device memory.
  void multiply(GpuStream& stream, ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate = false,
                float alpha = 1);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Sizes of a product, checked: internal where the tensors do not fit each other or are of other types than multiply takes.
struct GemmShape {
  int64_t M, N, K;
};
GemmShape gemm_shape(ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w);
// Counts it; whether it is to be done.
bool begin_product(GpuStream& stream, const GemmShape& shape, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate);

}  // namespace loraine
