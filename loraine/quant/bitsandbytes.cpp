// Codes and scales of NF4, FP4 and INT8. Facts: bitsandbytes 0.50's CPU backend (backends/default/ops.py, csrc/cpu_ops.cpp), restated.
#include "loraine/quant/bitsandbytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/row_dots.h"

namespace loraine {
namespace {

constexpr int64_t kBlock = 64, kNestedBlock = 256;
constexpr float kLeastScale = 1e-38f;  // what a block of zeros is divided by
constexpr float kLeastRow = 1e-36f;    // rows of nothing above it are zeros in INT8: 127 / it is still finite

int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

// The codes in the order of their values, and the midpoints between them.
struct CodeOrder {
  std::array<uint8_t, 16> codes;
  std::array<float, 15> bounds;
};
CodeOrder order_of(const float* map, std::array<uint8_t, 16> codes) {
  CodeOrder order{codes, {}};
  for (size_t i = 0; i < 15; ++i) order.bounds[i] = (map[codes[i]] + map[codes[i + 1]]) / 2;
  return order;
}
const CodeOrder& order_of(Dtype type) {
  static const CodeOrder nf4 = order_of(kNf4Map, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
  static const CodeOrder fp4 = order_of(kFp4Map, {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3});
  return type == Dtype::NF4 ? nf4 : fp4;
}

// NaN when one of the values is not a finite number.
float largest_size(const float* x, int64_t n) {
  float largest = 0, zero = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    zero += x[i] * 0.0f;
  }
  return largest + zero;
}

// n values, at most a block and an even number but in the last one, to pairs of codes, the first in the high half. Returns the scale.
float four_bit_block(uint8_t* codes, const float* x, int64_t n, const CodeOrder& order) {
  float largest = largest_size(x, n);
  const bool short_one = n < kBlock;
  if (short_one) largest = std::max(largest, kLeastScale);  // which bitsandbytes also keeps as the scale of a last, short block
  const float inverse = 1.0f / std::max(largest, kLeastScale);
  float scaled[kBlock] = {};
  int32_t place[kBlock] = {};
  for (int64_t i = 0; i < n; ++i) scaled[i] = std::clamp(short_one ? x[i] / largest : x[i] * inverse, -1.0f, 1.0f);
  for (const float bound : order.bounds)
    for (int64_t i = 0; i < kBlock; ++i) place[i] += scaled[i] > bound;
  for (int64_t i = 0; i < n; i += 2)
    codes[i / 2] = static_cast<uint8_t>(order.codes[static_cast<size_t>(place[i])] << 4 | order.codes[static_cast<size_t>(place[i + 1])]);
  return largest;
}

// The sum of n floats in the order in which PyTorch sums a row on x86: four interleaved chains of eight lanes (of one, when there are fewer
// floats), added up in levels.
template <int64_t kLanes>
float torch_sum_of_lanes(const float* x, int64_t n) {
  constexpr int64_t kChains = 4, kLevels = 4;
  using Lanes = std::array<float, kLanes>;
  const auto add = [](Lanes& to, const float* from) {
    for (size_t l = 0; l < kLanes; ++l) to[l] += from[l];
  };
  const int64_t vectors = n / kLanes, rounds = vectors / kChains;
  int64_t bits = 0;  // ceil(log2(rounds))
  while ((int64_t{1} << bits) < rounds) ++bits;
  const int64_t power = std::max<int64_t>(4, bits / kLevels), step = int64_t{1} << power;
  Lanes sums[kLevels][kChains] = {};
  const auto round = [&](int64_t i) {
    for (int64_t k = 0; k < kChains; ++k) add(sums[0][k], x + (i * kChains + k) * kLanes);
  };
  int64_t i = 0;
  while (i + step <= rounds) {
    for (int64_t j = 0; j < step; ++j) round(i++);
    for (int64_t level = 1; level < kLevels; ++level) {
      for (int64_t k = 0; k < kChains; ++k) {
        add(sums[level][k], sums[level - 1][k].data());
        sums[level - 1][k] = {};
      }
      if ((i & ((step - 1) << (level * power))) != 0) break;
    }
  }
  while (i < rounds) round(i++);
  for (int64_t level = 1; level < kLevels; ++level)
    for (int64_t k = 0; k < kChains; ++k) add(sums[0][k], sums[level][k].data());
  for (int64_t v = rounds * kChains; v < vectors; ++v) add(sums[0][0], x + v * kLanes);
  for (int64_t k = 1; k < kChains; ++k) add(sums[0][0], sums[0][k].data());
  float sum = 0;
  for (int64_t k = vectors * kLanes; k < n; ++k) sum += x[k];
  for (const float lane : sums[0][0]) sum += lane;
  return sum;
}

float torch_sum(const float* x, int64_t n) { return n < 8 ? torch_sum_of_lanes<1>(x, n) : torch_sum_of_lanes<8>(x, n); }

// The entry of dynamic_map() for a value in [-1, 1]. bitsandbytes first takes the nearest of 65,536 even steps, so that close to the middle
// between two entries it may be the farther one.
uint8_t nearest_scale(float x) {
  constexpr int kSteps = 65536;
  static const auto codes = [] {
    std::vector<uint8_t> all(kSteps);
    const float* map = dynamic_map();
    int code = 0;
    for (int i = 0; i < kSteps; ++i) {
      const float step = -1.0f + 2.0f * static_cast<float>(i) / static_cast<float>(kSteps - 1);
      while (code < 255 && 0.5f * (map[code] + map[code + 1]) < step) ++code;
      all[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
    }
    return all;
  }();
  return codes[static_cast<size_t>((x + 1.0f) * 0.5f * static_cast<float>(kSteps - 1) + 0.5f)];
}

// The scales of four-bit blocks in eight bits: less their mean, by blocks of their own.
float nest(uint8_t* codes, float* nested_absmax, const float* absmax, int64_t n) {
  const float offset = torch_sum(absmax, n) / static_cast<float>(n);
  parallel_for(pieces(n, kNestedBlock), [&](int64_t b) {
    const int64_t first = b * kNestedBlock, last = std::min(n, first + kNestedBlock);
    float largest = 0;
    for (int64_t i = first; i < last; ++i) largest = std::max(largest, std::fabs(absmax[i] - offset));
    nested_absmax[b] = std::isfinite(offset) ? largest : offset;
    const float inverse = 1.0f / largest;
    for (int64_t i = first; i < last; ++i)
      codes[i] = !(largest > 0) ? uint8_t{0} : nearest_scale(std::clamp((absmax[i] - offset) * inverse, -1.0f, 1.0f));
  });
  return offset;
}

// Where the pieces of a quantised weight lie in its memory.
struct Layout {
  size_t codes = 0, scales = 0, nested = 0, bytes = 0;
  Layout(int64_t rows, int64_t cols, Quantisation how) {
    const int64_t n = rows * cols, blocks = pieces(n, kBlock);
    const auto aligned = [](int64_t at) { return static_cast<size_t>((at + 63) / 64 * 64); };
    if (how.type == Dtype::INT8) {
      scales = aligned(n);
      bytes = scales + static_cast<size_t>(rows) * sizeof(float);
      return;
    }
    scales = aligned(pieces(n, 2));
    if (!how.nested) {
      bytes = scales + static_cast<size_t>(blocks) * sizeof(float);
      return;
    }
    nested = scales + aligned(blocks);
    bytes = nested + static_cast<size_t>(pieces(blocks, kNestedBlock)) * sizeof(float);
  }
};

void quantise_four_bits(uint8_t* codes, float* absmax, const Tensor& weight, Dtype type) {
  constexpr int64_t kBlocks = 64;  // a thread takes so many at a time
  const int64_t n = weight.numel();
  const CodeOrder& order = order_of(type);
  const Tensor flat(weight.data, weight.dtype, {n, 1});
  parallel_for(pieces(n, kBlock * kBlocks), [&](int64_t piece) {
    float room[kBlock * kBlocks];
    const int64_t first = piece * kBlock * kBlocks, count = std::min(kBlock * kBlocks, n - first);
    widen_row(room, flat.row_range(first, count));
    for (int64_t i = 0; i < count; i += kBlock)
      absmax[(first + i) / kBlock] = four_bit_block(codes + (first + i) / 2, room + i, std::min(kBlock, count - i), order);
  });
}

void quantise_int8(int8_t* codes, float* row_absmax, const Tensor& weight, bool as_f16) {
  parallel_for(weight.rows(), [&](int64_t r) {
    thread_local Buffer room;
    const int64_t n = weight.cols();
    if (room.bytes() < static_cast<size_t>(n) * sizeof(float)) room = Buffer(static_cast<size_t>(n) * sizeof(float));
    float* x = static_cast<float*>(room.data());
    widen_row(x, weight.row_range(r, 1));
    if (as_f16)
      for (int64_t c = 0; c < n; ++c) x[c] = f16_to_f32(f32_to_f16(x[c]));
    const float largest = largest_size(x, n);
    row_absmax[r] = largest;
    if (!(largest > kLeastRow)) {  // zeros, or not finite numbers
      std::fill_n(codes + r * n, n, int8_t{0});
      return;
    }
    const float scale = 1.0f / largest * 127.0f;  // in this order
    for (int64_t c = 0; c < n; ++c) codes[r * n + c] = static_cast<int8_t>(std::nearbyint(x[c] * scale));
  });
}

}  // namespace

QuantisedWeight quantise_as_bitsandbytes(const Tensor& weight, Quantisation how, Dtype values) {
  if (how.type != Dtype::INT8 && weight.cols() % 2 != 0)
    throw Error(ErrorKind::unsupported,
                fmt::format("a weight of shape {} has an odd number of columns, which four bits do not hold", weight.shape_text()));
  const Layout layout(weight.rows(), weight.cols(), how);
  QuantisedWeight out{{}, Buffer(layout.bytes), std::make_unique<QuantState>()};
  auto* bytes = static_cast<uint8_t*>(out.memory.data());
  auto* scales = reinterpret_cast<float*>(bytes + layout.scales);
  QuantState& q = *out.state;
  q.codes = bytes;
  q.cols = weight.cols();
  q.values = values;
  out.weight = Tensor(bytes, how.type, {weight.rows(), weight.cols()});
  out.weight.quant = out.state.get();
  if (how.type == Dtype::INT8) {
    quantise_int8(reinterpret_cast<int8_t*>(bytes), scales, weight, how.as_f16);
    q.row_absmax = scales;
    return out;
  }
  q.map = how.type == Dtype::NF4 ? kNf4Map : kFp4Map;
  const int64_t blocks = block_count(weight);
  if (!how.nested) {
    quantise_four_bits(bytes, scales, weight, how.type);
    q.absmax = scales;
    return out;
  }
  const Buffer absmax(static_cast<size_t>(blocks) * sizeof(float));
  quantise_four_bits(bytes, static_cast<float*>(absmax.data()), weight, how.type);
  auto* nested_absmax = reinterpret_cast<float*>(bytes + layout.nested);
  q.offset = nest(bytes + layout.scales, nested_absmax, static_cast<const float*>(absmax.data()), blocks);
  q.absmax_codes = bytes + layout.scales;
  q.nested_map = dynamic_map();
  q.nested_absmax = nested_absmax;
  return out;
}

int64_t block_count(const Tensor& weight) { return pieces(weight.numel(), kBlock); }

}  // namespace loraine
