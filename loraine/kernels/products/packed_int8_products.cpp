// Rows are rounded once; then each thread multiplies blocks of rows of the weight with pieces of rows of x.
#include "loraine/kernels/products/packed_int8_products.h"

#include <algorithm>

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/packed_int8_dots.h"

namespace loraine {
namespace {

constexpr int64_t kPartRows = 32;  // rows of a weight that a thread takes at least: two strips

int64_t blocks_of_rows(int64_t rows) { return (rows + kPartRows - 1) / kPartRows; }

RoundedBlocks rounded_rows(const Tensor& x) {
  thread_local Buffer memory;
  const size_t bytes = RoundedBlocks::bytes(x.rows(), x.cols());
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  const RoundedBlocks to = RoundedBlocks::in(memory.data(), x.rows(), x.cols());
  parallel_for(
      x.rows(), [&](int64_t t) { round_blocks(to, t, read_row(x, t, row_room(x.cols()))); }, row_chunk(x.cols()));
  return to;
}

// y [m, n] = x wᵀ for few rows of both.
void block_of_product(const Tensor& y, const Tensor& w, const RoundedBlocks& x) {
  float sums[kMostRoundedRows * kPartRows];
  packed_int8_dots(sums, kPartRows, w, x);
  for (int64_t m = 0; m < x.rows; ++m) write_row(y, m, sums + m * kPartRows);
}

void packed_int8_matmul_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts) {
  const RoundedBlocks all = rounded_rows(x);
  int64_t blocks = 0;
  for (const Tensor& w : parts) blocks += blocks_of_rows(w.rows());
  const int64_t M = x.rows(), pieces = (M + kMostRoundedRows - 1) / kMostRoundedRows;
  parallel_for<Take::shares>(
      pieces * blocks,
      [&](int64_t i) {
        const int64_t m0 = i / blocks * kMostRoundedRows, m = std::min(kMostRoundedRows, M - m0);
        int64_t b = i % blocks, column = 0;
        const Tensor* w = parts.data();
        for (; b >= blocks_of_rows(w->rows()); ++w) {
          b -= blocks_of_rows(w->rows());
          column += w->rows();
        }
        const int64_t n0 = b * kPartRows, n = std::min(kPartRows, w->rows() - n0);
        block_of_product(y.row_range(m0, m).col_range(column + n0, n), w->row_range(n0, n), all.row_range(m0, m));
      },
      std::max<int64_t>(1, 65536 / (kPartRows * std::min(M, kMostRoundedRows) * x.cols() + 1)));
}

}  // namespace

bool has_integer_blocks(Dtype dtype) { return is_packed(dtype) && !has_quant_state(dtype); }

void packed_int8_matmul(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts) {
  const char* op = "packed_int8_matmul";
  int64_t N = 0;
  check_op(!parts.empty() && parts.size() <= kMostParts, op, "there are no parts, or too many");
  for (const Tensor& w : parts) {
    check_shape(op, "a part", w, w.rows(), x.cols());
    check_op(has_integer_blocks(w.dtype), op, "a part has no blocks of whole numbers");
    N += w.rows();
  }
  check_activation(op, "x", x, y.rows(), x.cols());
  check_activation(op, "y", y, x.rows(), N);
  if (x.rows() == 0 || N == 0) return;
  dispatch(ctx, op, [&] { packed_int8_matmul_cpu(y, x, parts); },
           {2.0 * static_cast<double>(x.rows()) * static_cast<double>(N) * static_cast<double>(x.cols()), x.rows(), N, x.cols()});
}

}  // namespace loraine
