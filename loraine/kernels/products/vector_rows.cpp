// A code is one look-up of eight neighbours in its book, widened in a vector. Compiled once per instruction set by Highway's
// foreach_target.
#include "loraine/kernels/products/vector_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/vector_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/core/quant_state.h"
#include "loraine/core/vector_codes.h"
#include "loraine/kernels/base/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void VectorPiece(float* out, const Tensor& view) { dequantise_vectors(out, view); }
#else

using DEight = hn::CappedTag<float, kVector>;
constexpr size_t kEightLanes = hn::MaxLanes(DEight());
using DHalf = hn::Rebind<uint16_t, DEight>;

struct F32Book {
  using T = float;
  static HWY_INLINE hn::Vec<DEight> load(const T* p) { return hn::LoadU(DEight(), p); }
};
struct F16Book {
  using T = uint16_t;
  static HWY_INLINE hn::Vec<DEight> load(const T* p) {
    const hn::Rebind<hwy::float16_t, DEight> d16;
    return hn::PromoteTo(DEight(), hn::BitCast(d16, hn::LoadU(DHalf(), p)));
  }
};
struct Bf16Book {
  using T = uint16_t;
  static HWY_INLINE hn::Vec<DEight> load(const T* p) {
    const hn::Rebind<uint32_t, DEight> d32;
    return hn::BitCast(DEight(), hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(DHalf(), p))));
  }
};

template <class Book>
HWY_INLINE void codes_of_a_row(float* out, const uint8_t* codes, int64_t count, bool two, const VectorCodes& v, float row_scale) {
  const auto* books = static_cast<const typename Book::T*>(v.books);
  const auto scale = hn::Set(DEight(), row_scale);
  for (int64_t g = 0; g < count; ++g, codes += 2, out += kVector) {
    const auto* first = books + (two ? codes[0] : codes[0] | codes[1] << 8) * kVector;
    const auto* second = books + (256 + codes[1]) * kVector;
    for (size_t j = 0; j < kVector; j += kEightLanes) {
      auto sum = Book::load(first + j);
      if (two) sum = hn::Add(sum, Book::load(second + j));
      hn::StoreU(hn::Mul(sum, scale), DEight(), out + j);
    }
  }
}

void VectorPiece(float* out, const Tensor& view) {
  const VectorCodes& v = *view.quant->vectors;
  const auto *codes = static_cast<const uint8_t*>(view.data), *start = static_cast<const uint8_t*>(view.quant->codes);
  const int64_t first = (codes - start) / 2, of_row = view.quant->cols / kVector, n = view.numel() / kVector;
  for (int64_t done = 0; done < n;) {  // a view may cross rows
    const int64_t row = (first + done) / of_row, count = std::min(n - done, (row + 1) * of_row - first - done);
    const bool two = view.dtype == Dtype::V2X8;
    const float scale = v.scale(row);
    float* to = out + done * kVector;
    if (v.book_type == Dtype::F32) codes_of_a_row<F32Book>(to, codes + 2 * done, count, two, v, scale);
    else if (v.book_type == Dtype::F16) codes_of_a_row<F16Book>(to, codes + 2 * done, count, two, v, scale);
    else codes_of_a_row<Bf16Book>(to, codes + 2 * done, count, two, v, scale);
    done += count;
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(VectorPiece);

void vector_row(float* out, const Tensor& in) { HWY_DYNAMIC_DISPATCH(VectorPiece)(out, in); }

}  // namespace loraine
#endif
