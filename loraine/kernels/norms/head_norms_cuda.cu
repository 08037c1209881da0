// RMSNorm of heads on the GPU: a block a row, a warp a piece at a time.
#include "loraine/core/error.h"
#include "loraine/kernels/norms/norm_rows.h"
#include "loraine/kernels/norms/norms_cuda.h"

namespace loraine::cuda {
namespace {

constexpr unsigned kHeadThreads = 256;

struct NormedHeads {
  HeadNormGroup groups[kMostHeadNormGroups];
  int pieces;  // of all groups
};

struct HeadPiece {
  int64_t first, width;
  const float* weight;
  float eps, offset;
};
__device__ __forceinline__ HeadPiece piece_at(const NormedHeads& norms, int64_t piece) {
  HeadPiece out{0, 0, nullptr, 0, 0};
  UNROLL
  for (int g = 0; g < kMostHeadNormGroups; ++g) {
    const HeadNormGroup& group = norms.groups[g];
    if (piece >= 0 && piece < group.count) out = {group.first + piece * group.width, group.width, group.weight, group.eps, group.offset};
    piece -= group.count;
  }
  return out;
}

// Each lane reads again only what it has written itself.
template <bool kWhole, class T>
__global__ void __launch_bounds__(kHeadThreads, 1) head_norms_kernel(Rows<T> x, Rows<T> before, Rows<float> rstd, NormedHeads norms) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int piece = warp; piece < norms.pieces; piece += static_cast<int>(blockDim.x) / kWarp) {
    const HeadPiece at = piece_at(norms, piece);
    T* row = x.data + blockIdx.x * x.stride + at.first;
    T* kept = before.data + blockIdx.x * before.stride + at.first;
    float sum = 0;
    for (int64_t c = lane * 8; c < at.width; c += kWarp * 8) {
      float v[8];
      load_eight<kWhole>(v, row, c, at.width);
      store_eight<kWhole>(kept, c, at.width, v);
      UNROLL
      for (int i = 0; i < 8; ++i) sum += v[i] * v[i];
    }
    const float r = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(at.width) + at.eps);
    if (lane == 0) rstd.data[piece * rstd.stride + blockIdx.x] = r;
    for (int64_t c = lane * 8; c < at.width; c += kWarp * 8) {
      float v[8], w[8];
      load_eight<kWhole>(v, kept, c, at.width);
      load_factors<kWhole>(w, at.weight, at.offset, c, at.width);
      UNROLL
      for (int i = 0; i < 8; ++i) v[i] = v[i] * r * w[i];
      store_eight<kWhole>(row, c, at.width, v);
    }
  }
}

template <bool kWhole, class T>
__global__ void __launch_bounds__(kHeadThreads, 1)
    head_norms_backward_kernel(Rows<T> d, Rows<const T> before, Rows<const float> rstd, NormedHeads norms) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int piece = warp; piece < norms.pieces; piece += static_cast<int>(blockDim.x) / kWarp) {
    const HeadPiece at = piece_at(norms, piece);
    T* row = d.data + blockIdx.x * d.stride + at.first;
    const T* x = before.data + blockIdx.x * before.stride + at.first;
    float dot = 0;
    for (int64_t c = lane * 8; c < at.width; c += kWarp * 8) {
      float v[8], g[8], w[8];
      load_eight<kWhole>(v, x, c, at.width);
      load_eight<kWhole>(g, row, c, at.width);
      load_factors<kWhole>(w, at.weight, at.offset, c, at.width);
      UNROLL
      for (int i = 0; i < 8; ++i) dot += g[i] * w[i] * v[i];
    }
    const float r = rstd.data[piece * rstd.stride + blockIdx.x], back = warp_sum(dot) * r * r * r / static_cast<float>(at.width);
    for (int64_t c = lane * 8; c < at.width; c += kWarp * 8) {
      float v[8], g[8], w[8];
      load_eight<kWhole>(v, x, c, at.width);
      load_eight<kWhole>(g, row, c, at.width);
      load_factors<kWhole>(w, at.weight, at.offset, c, at.width);
      UNROLL
      for (int i = 0; i < 8; ++i) g[i] = g[i] * w[i] * r - v[i] * back;
      store_eight<kWhole>(row, c, at.width, g);
    }
  }
}

NormedHeads norms_of(const Tensor& x, const Tensor& rstd, std::span<const HeadNormGroup> groups) {
  NormedHeads norms{};
  int64_t end = 0, pieces = 0;
  if (groups.size() > kMostHeadNormGroups) throw Error(ErrorKind::internal, "head_norms: more groups than q, k and v");
  for (size_t g = 0; g < groups.size(); ++g) {
    norms.groups[g] = groups[g];
    pieces += groups[g].count, end = std::max(end, groups[g].first + groups[g].count * groups[g].width);
  }
  if (end > x.cols() || pieces > rstd.rows()) throw Error(ErrorKind::internal, "head_norms: groups beyond their tensors");
  norms.pieces = static_cast<int>(pieces);
  return norms;
}

bool whole_pieces(const Tensor& x, const Tensor& before, std::span<const HeadNormGroup> groups) {
  bool whole = true;
  for (const HeadNormGroup& group : groups)
    whole = whole && group.width % 8 == 0 && reinterpret_cast<uintptr_t>(group.weight) % 16 == 0 &&
            whole_vectors(x.col_range(group.first, group.width), before.col_range(group.first, group.width));
  return whole;
}

double bytes_of_groups(const Tensor& x, std::span<const HeadNormGroup> groups) {
  double columns = 0;
  for (const HeadNormGroup& group : groups) columns += static_cast<double>(group.count * group.width);
  return columns * static_cast<double>(x.rows()) * static_cast<double>(size_of(x.dtype));
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void head_norms_cuda(GpuStream& stream, const Tensor& x, const Tensor& before, const Tensor& rstd, std::span<const HeadNormGroup> groups) {
  const NormedHeads norms = norms_of(x, rstd, groups);
  stream.moves(3 * bytes_of_groups(x, groups) + bytes_in(rstd));
  with_type(x, [&]<class T>(T) {
    auto kernel = whole_pieces(x, before, groups) ? head_norms_kernel<true, T> : head_norms_kernel<false, T>;
    launch("head_norms", kernel, static_cast<unsigned>(x.rows()), kHeadThreads, 0, stream, rows_of<T>(x), rows_of<T>(before),
           rows_of<float>(rstd), norms);
  });
}

void head_norms_backward_cuda(GpuStream& stream, const Tensor& d, const Tensor& before, const Tensor& rstd,
                              std::span<const HeadNormGroup> groups) {
  const NormedHeads norms = norms_of(d, rstd, groups);
  stream.moves(3 * bytes_of_groups(d, groups) + bytes_in(rstd));
  with_type(d, [&]<class T>(T) {
    auto kernel = whole_pieces(d, before, groups) ? head_norms_backward_kernel<true, T> : head_norms_backward_kernel<false, T>;
    launch("head_norms_backward", kernel, static_cast<unsigned>(d.rows()), kHeadThreads, 0, stream, rows_of<T>(d), rows_of<const T>(before),
           rows_of<const float>(rstd), norms);
  });
}

}  // namespace loraine
