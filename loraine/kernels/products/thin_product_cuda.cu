// Products with few columns or rows on the GPU: bound by reading the large operand once. One kernel for every form and type; of bf16 and a
// short w, as adapters have it in every step, one on the matrix units. Where K is long and the tiles are few, K is cut into pieces, which a
// second launch adds up in their order.
#include <algorithm>

#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/products/products_cuda.h"

namespace loraine::cuda {
namespace {

constexpr int kProductThreads = 256, kStep = 32;
constexpr int64_t kPieceDepth = 1024, kMostPieces = 32, kManyTiles = 256;

struct Operand {  // element (i, k) lies at i · outer + k · inner
  const void* data;
  int64_t outer, inner;
};
struct ProductShape {
  int64_t M, N, K, depth;  // depth: K of a piece
  float alpha;
  bool accumulate;
};

template <int kM, int kN>
struct ProductRoom {
  float x[kM][kStep + 1], w[kN][kStep + 1];
};

// Elements [first, first + kRows) × [k, k + kStep) of an operand, those beyond as zeros; neighbours in memory go to neighbouring threads.
template <int kRows, class T>
__device__ __forceinline__ void take_tile(float (&to)[kRows][kStep + 1], const Operand& from, int64_t first, int64_t rows, int64_t k,
                                          int64_t end) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kStep; i += kProductThreads) {
    const int row = from.inner == 1 ? i / kStep : i % kRows, depth = from.inner == 1 ? i % kStep : i / kRows;
    const bool there = first + row < rows && k + depth < end;
    to[row][depth] = there ? to_float(static_cast<const T*>(from.data)[(first + row) * from.outer + (k + depth) * from.inner]) : 0.0f;
  }
}

// A tile of kM × kN of a piece of K a block; a thread has kM · kN / 256 elements, one below the other.
template <int kM, int kN, class X, class W>
__global__ void __launch_bounds__(kProductThreads, 1)  // without the 1 it spills
    thin_product_kernel(AnyRows y, float* partial, Operand x, Operand w, ProductShape shape) {
  ProductRoom<kM, kN>& room = shared<ProductRoom<kM, kN>>();
  constexpr int kEach = kM * kN / kProductThreads;
  const int64_t tiles_n = (shape.N + kN - 1) / kN, first_m = blockIdx.x / tiles_n * kM, first_n = blockIdx.x % tiles_n * kN;
  const int64_t from = blockIdx.y * shape.depth, end = from + shape.depth < shape.K ? from + shape.depth : shape.K;
  const int n = static_cast<int>(threadIdx.x) % kN, m0 = static_cast<int>(threadIdx.x) / kN * kEach;
  float sums[kEach] = {};
  for (int64_t k = from; k < end; k += kStep) {
    take_tile<kM, X>(room.x, x, first_m, shape.M, k, end);
    take_tile<kN, W>(room.w, w, first_n, shape.N, k, end);
    __syncthreads();
    UNROLL
    for (int depth = 0; depth < kStep; ++depth) {
      const float right = room.w[n][depth];
      UNROLL
      for (int i = 0; i < kEach; ++i) sums[i] += room.x[m0 + i][depth] * right;
    }
    __syncthreads();
  }
  UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int64_t m = first_m + m0 + i, column = first_n + n;
    if (m >= shape.M || column >= shape.N) continue;
    if (partial) partial[(blockIdx.y * shape.M + m) * shape.N + column] = sums[i];
    else write_element(y, m, column, (shape.accumulate ? read_element(y, m, column) : 0.0f) + shape.alpha * sums[i]);
  }
}

__global__ void __launch_bounds__(kProductThreads) add_pieces_kernel(AnyRows y, const float* partial, int64_t pieces, ProductShape shape) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kProductThreads + threadIdx.x;
  if (i >= shape.M * shape.N) return;
  float sum = 0;
  for (int64_t p = 0; p < pieces; ++p) sum += partial[p * shape.M * shape.N + i];
  const int64_t m = i / shape.N, n = i % shape.N;
  write_element(y, m, n, (shape.accumulate ? read_element(y, m, n) : 0.0f) + shape.alpha * sum);
}

// --- on the matrix units: 64 rows of x a block, 16 of a warp; two steps of K on their way while one is used ---

constexpr int kRankThreads = 128, kRankRows = 64, kRankDepth = 64, kStages = 3, kPadded = kRankDepth + 8;

template <int R>
struct RankTiles {  // rows of kPadded: those of one ldmatrix lie in different banks
  Bf16 x[kStages][kRankRows][kPadded], w[kStages][R][kPadded];
};

template <int R>
__global__ void __launch_bounds__(kRankThreads)
    rank_product_kernel(float* partial, const Bf16* x, int64_t x_stride, const Bf16* w, int64_t w_stride, ProductShape shape) {
  RankTiles<R>& tiles = shared<RankTiles<R>>();
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRankRows, from = blockIdx.y * shape.depth;
  const int64_t end = from + shape.depth < shape.K ? from + shape.depth : shape.K;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int steps = static_cast<int>((end - from + kRankDepth - 1) / kRankDepth);
  auto fetch = [&](int step) {
    if (step < steps) {
      const int stage = step % kStages;
      for (int i = static_cast<int>(threadIdx.x); i < (kRankRows + R) * (kRankDepth / 8); i += kRankThreads) {
        const int row = i / (kRankDepth / 8), c = i % (kRankDepth / 8) * 8;
        const bool of_x = row < kRankRows;
        const int64_t at = of_x ? first_row + row : row - kRankRows, k = from + step * kRankDepth + c;
        const bool there = k < end && at < (of_x ? shape.M : shape.N);
        const Bf16* source = of_x ? x + (there ? at * x_stride + k : 0) : w + (there ? at * w_stride + k : 0);
        copy_async16(of_x ? &tiles.x[stage][row][c] : &tiles.w[stage][row - kRankRows][c], source, there ? 16 : 0);
      }
    }
    copy_commit();
  };
  float sums[R / 8][4] = {};
  for (int step = 0; step < kStages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    copy_wait<kStages - 2>();
    __syncthreads();  // this step is there, and nobody reads the one before any more
    fetch(step + kStages - 1);
    const int stage = step % kStages;
    UNROLL
    for (int k = 0; k < kRankDepth; k += 16) {
      uint32_t left[4];
      load_matrices<false>(left, &tiles.x[stage][warp * 16 + lane % 16][k + lane / 16 * 8]);
      UNROLL
      for (int n = 0; n < R; n += 16) {
        uint32_t right[4];
        load_matrices<false>(right, &tiles.w[stage][n + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8]);
        mma_m16n8k16(sums[n / 8], left, right[0], right[1]);
        mma_m16n8k16(sums[n / 8 + 1], left, right[2], right[3]);
      }
    }
  }
  copy_wait<0>();
  float* out = partial + static_cast<int64_t>(blockIdx.y) * shape.M * shape.N;
  UNROLL
  for (int n = 0; n < R / 8; ++n) {
    UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t m = first_row + warp * 16 + lane / 4 + i / 2 * 8, column = n * 8 + lane % 4 * 2 + i % 2;
      if (m < shape.M && column < shape.N) out[m * shape.N + column] = sums[n][i];
    }
  }
}

int64_t tiles_of(int64_t M, int64_t N) { return ((M + 63) / 64) * ((N + 63) / 64); }
int64_t pieces_of(int64_t M, int64_t N, int64_t K) {
  if (tiles_of(M, N) >= kManyTiles) return 1;
  return std::clamp<int64_t>(K / kPieceDepth, 1, kMostPieces);
}
bool takes_matrix_units(ProductForm form, const Tensor& x, const Tensor& w) {
  return form == ProductForm::nt && x.dtype == Dtype::BF16 && w.dtype == Dtype::BF16 && w.rows() % 8 == 0 && w.rows() <= 64 &&
         whole_vectors(x, w);
}
unsigned blocks_for(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

int64_t thin_product_room(int64_t M, int64_t N, int64_t K) { return pieces_of(M, N, K) * M * N; }

void thin_product_cuda(GpuStream& stream, ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, bool accumulate,
                       float* partial) {
  const int64_t M = y.rows(), N = y.cols(), K = form == ProductForm::tn ? x.rows() : x.cols(), pieces = pieces_of(M, N, K);
  const int64_t depth = ((K + pieces - 1) / pieces + 63) / 64 * 64;
  const ProductShape shape{M, N, K, depth, alpha, accumulate};
  const bool on_matrix_units = takes_matrix_units(form, x, w), in_pieces = on_matrix_units || pieces > 1;
  const double flops = 2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K),
               of_pieces = 4.0 * static_cast<double>(pieces * M * N), of_y = bytes_in(y) * (accumulate ? 2 : 1);
  stream.moves(bytes_in(x, w) + (in_pieces ? of_pieces : of_y), on_matrix_units ? flops : 0, on_matrix_units ? 0 : flops);
  if (on_matrix_units) {
    auto go = [&](auto kernel, size_t bytes) {
      launch("rank_product", kernel, dim3(blocks_for(M, kRankRows), static_cast<unsigned>(pieces)), kRankThreads, bytes, stream, partial,
             static_cast<const Bf16*>(x.data), x.row_stride, static_cast<const Bf16*>(w.data), w.row_stride, shape);
    };
    if (N <= 16) go(rank_product_kernel<16>, sizeof(RankTiles<16>));
    else if (N <= 32) go(rank_product_kernel<32>, sizeof(RankTiles<32>));
    else go(rank_product_kernel<64>, sizeof(RankTiles<64>));
  } else {
    const Operand left = form == ProductForm::tn ? Operand{x.data, 1, x.row_stride} : Operand{x.data, x.row_stride, 1};
    const Operand right = form == ProductForm::nt ? Operand{w.data, w.row_stride, 1} : Operand{w.data, 1, w.row_stride};
    with_types(x, w, [&]<class X, class W>(X, W) {
      auto go = [&](auto kernel, int64_t of_m, int64_t of_n, size_t bytes) {
        launch("thin_product", kernel, dim3(blocks_for(M, of_m) * blocks_for(N, of_n), static_cast<unsigned>(pieces)), kProductThreads,
               bytes, stream, any_rows(y), pieces > 1 ? partial : nullptr, left, right, shape);
      };
      if (N <= 16) go(thin_product_kernel<64, 16, X, W>, 64, 16, sizeof(ProductRoom<64, 16>));
      else if (M <= 16) go(thin_product_kernel<16, 64, X, W>, 16, 64, sizeof(ProductRoom<16, 64>));
      else go(thin_product_kernel<64, 64, X, W>, 64, 64, sizeof(ProductRoom<64, 64>));
    });
  }
  if (!in_pieces) return;
  stream.moves(of_pieces + of_y);
  launch("add_pieces", add_pieces_kernel, blocks_for(M * N, kProductThreads), kProductThreads, 0, stream, any_rows(y), partial, pieces,
         shape);
}

}  // namespace loraine
