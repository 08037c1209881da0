// Codes in groups as vectors of f32, compiled once per instruction set by Highway's foreach_target. A format is a struct with `expand`,
// which makes bytes of 32 codes, and `value`, which makes f32 of a vector of such bytes; scales and zeros are the same for all of them.
#include "loraine/kernels/products/grouped_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/grouped_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/core/grouped_codes.h"
#include "loraine/core/packed_runs.h"
#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"
#include "loraine/kernels/base/lines_ahead.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void GroupedPiece(float* out, Dtype dtype, const GroupedCodes& g, const GroupedRowPiece& p) {
  for (int64_t i = 0; i < p.n; ++i) {
    const int64_t group = g.column_group ? g.column_group[p.c + i] : (p.c + i) / g.group_cols - p.c / g.group_cols;
    out[i] = (code_value(dtype, p.codes, i) - p.zeros[group]) * p.scales[group];
  }
}
bool GroupedDots(float*, const Tensor&, const float*) { return false; }
#else

constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int64_t kChunk = 32;
constexpr int kVectors = static_cast<int>(kChunk) / kLanes;
using D8 = hn::FixedTag<uint8_t, 16>;
using DU8 = hn::Rebind<uint8_t, D>;
using DI8 = hn::Rebind<int8_t, D>;
using DU32 = hn::Rebind<uint32_t, D>;
using DI32 = hn::Rebind<int32_t, D>;

HWY_INLINE V unsigned_value(const uint8_t* bytes) { return hn::ConvertTo(D(), hn::PromoteTo(DI32(), hn::LoadU(DU8(), bytes))); }
HWY_INLINE V signed_value(const uint8_t* bytes) {
  return hn::ConvertTo(D(), hn::PromoteTo(DI32(), hn::LoadU(DI8(), reinterpret_cast<const int8_t*>(bytes))));
}
HWY_INLINE const uint8_t* as_they_lie(const uint8_t* codes, uint8_t*) { return codes; }

// `change` is done to the halves of all bytes.
template <class Change>
HWY_INLINE const uint8_t* expand_nibbles(const uint8_t* codes, uint8_t* room, Change&& change) {
  const D8 d8;
  const auto pairs = hn::LoadU(d8, codes);
  const auto low = change(hn::And(pairs, hn::Set(d8, 15))), high = change(hn::ShiftRight<4>(pairs));
  hn::Store(hn::InterleaveLower(d8, low, high), d8, room);
  hn::Store(hn::InterleaveUpper(d8, low, high), d8, room + 16);
  return room;
}

struct U1 {
  static constexpr int64_t kBytes = 4;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) {
    for (int64_t i = 0; i < kBytes; ++i)
      for (int j = 0; j < 8; ++j) room[8 * i + j] = codes[i] >> j & 1;
    return room;
  }
  static HWY_INLINE V value(const uint8_t* bytes) { return unsigned_value(bytes); }
};
struct U2 {
  static constexpr int64_t kBytes = 8;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) {
    for (int64_t i = 0; i < kBytes; ++i)
      for (int j = 0; j < 4; ++j) room[4 * i + j] = codes[i] >> (2 * j) & 3;
    return room;
  }
  static HWY_INLINE V value(const uint8_t* bytes) { return unsigned_value(bytes); }
};
struct U3 {
  static constexpr int64_t kBytes = 12;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) {
    for (int64_t i = 0; i < kBytes; i += 3) {
      const uint32_t bits = static_cast<uint32_t>(codes[i] | codes[i + 1] << 8 | codes[i + 2] << 16);
      for (int j = 0; j < 8; ++j) *room++ = bits >> (3 * j) & 7;
    }
    return room - kChunk;
  }
  static HWY_INLINE V value(const uint8_t* bytes) { return unsigned_value(bytes); }
};
struct U4 {
  static constexpr int64_t kBytes = 16;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) {
    return expand_nibbles(codes, room, [](auto halves) { return halves; });
  }
  static HWY_INLINE V value(const uint8_t* bytes) { return unsigned_value(bytes); }
};
struct U8 {
  static constexpr int64_t kBytes = 32;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) { return as_they_lie(codes, room); }
  static HWY_INLINE V value(const uint8_t* bytes) { return unsigned_value(bytes); }
};
struct I8 {
  static constexpr int64_t kBytes = 32;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) { return as_they_lie(codes, room); }
  static HWY_INLINE V value(const uint8_t* bytes) { return signed_value(bytes); }
};
struct E4M3 {
  static constexpr int64_t kBytes = 32;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) { return as_they_lie(codes, room); }
  static HWY_INLINE V value(const uint8_t* bytes) {
    const DU32 d;
    const auto code = hn::PromoteTo(d, hn::LoadU(DU8(), bytes)), size = hn::And(code, hn::Set(d, 0x7f));
    const V normal = hn::BitCast(D(), hn::Add(hn::ShiftLeft<20>(size), hn::Set(d, 120u << 23)));
    const V small = hn::Mul(hn::ConvertTo(D(), hn::BitCast(DI32(), size)), hn::Set(D(), 0x1p-9f));
    const V finite = hn::IfThenElse(hn::RebindMask(D(), hn::Lt(size, hn::Set(d, 8))), small, normal);
    const V nan = hn::BitCast(D(), hn::Set(d, 0x7fc00000u));
    const V value = hn::IfThenElse(hn::RebindMask(D(), hn::Eq(size, hn::Set(d, 0x7f))), nan, finite);
    return hn::BitCast(D(), hn::Or(hn::BitCast(d, value), hn::ShiftLeft<24>(hn::And(code, hn::Set(d, 0x80)))));
  }
};
struct E2M1 {
  static constexpr int64_t kBytes = 16;
  static HWY_INLINE const uint8_t* expand(const uint8_t* codes, uint8_t* room) {
    const auto doubled = hn::LoadU(D8(), reinterpret_cast<const uint8_t*>(packed::kMxfp4Values));
    return expand_nibbles(codes, room, [&](auto halves) { return hn::TableLookupBytes(doubled, halves); });
  }
  static HWY_INLINE V value(const uint8_t* bytes) { return hn::Mul(signed_value(bytes), hn::Set(D(), 0.5f)); }
};

template <class Use>
HWY_INLINE void for_codes(Dtype dtype, Use&& use) {
  switch (dtype) {
    case Dtype::U1_GROUPS: return use(U1());
    case Dtype::U2_GROUPS: return use(U2());
    case Dtype::U3_GROUPS: return use(U3());
    case Dtype::U4_GROUPS: return use(U4());
    case Dtype::U8_GROUPS: return use(U8());
    case Dtype::I8_GROUPS: return use(I8());
    case Dtype::F8_GROUPS: return use(E4M3());
    case Dtype::F4_GROUPS: return use(E2M1());
    default: break;
  }
}

// Elements that are no whole chunk, and groups that begin inside a vector.
HWY_INLINE void one_by_one(float* out, Dtype dtype, const GroupedCodes& g, const GroupedRowPiece& p, int64_t from) {
  for (int64_t i = from; i < p.n; ++i) {
    const int64_t group = g.column_group ? g.column_group[p.c + i] : (p.c + i) / g.group_cols - p.c / g.group_cols;
    out[i] = (code_value(dtype, p.codes, i) - p.zeros[group]) * p.scales[group];
  }
}

template <class F>
HWY_INLINE void piece(float* out, Dtype dtype, const GroupedCodes& g, const GroupedRowPiece& p) {
  HWY_ALIGN uint8_t room[kChunk];
  const uint8_t* codes = p.codes;
  int64_t i = 0;
  if (g.column_group) {
    for (; i + kChunk <= p.n; i += kChunk, codes += F::kBytes) {
      const uint8_t* bytes = F::expand(codes, room);
      for (int v = 0; v < kVectors; ++v) {
        const auto group = hn::LoadU(DI32(), g.column_group + p.c + i + v * kLanes);
        const V zero = hn::GatherIndex(D(), p.zeros, group), scale = hn::GatherIndex(D(), p.scales, group);
        hn::StoreU(hn::Mul(hn::Sub(F::value(bytes + v * kLanes), zero), scale), D(), out + i + v * kLanes);
      }
    }
    return one_by_one(out, dtype, g, p, i);
  }
  if (g.period) {  // a scale and a zero for each element
    for (; i + kChunk <= p.n; i += kChunk, codes += F::kBytes) {
      const uint8_t* bytes = F::expand(codes, room);
      for (int v = 0; v < kVectors; ++v) {
        const V zero = hn::LoadU(D(), p.zeros + i + v * kLanes), scale = hn::LoadU(D(), p.scales + i + v * kLanes);
        hn::StoreU(hn::Mul(hn::Sub(F::value(bytes + v * kLanes), zero), scale), D(), out + i + v * kLanes);
      }
    }
    return one_by_one(out, dtype, g, p, i);
  }
  const bool one_group = g.groups == 1 && !g.flat;
  const bool whole_vectors = p.c % kLanes == 0 && (g.group_cols % kLanes == 0 || one_group);
  if (!whole_vectors) return one_by_one(out, dtype, g, p, 0);
  const int64_t length = one_group ? p.c + p.n : g.group_cols;
  int64_t left = length - p.c % length, group = 0;  // left: of the group at hand
  V zero = hn::Set(D(), p.zeros[0]), scale = hn::Set(D(), p.scales[0]);
  for (; i + kChunk <= p.n; i += kChunk, codes += F::kBytes) {
    const uint8_t* bytes = F::expand(codes, room);
    for (int v = 0; v < kVectors; ++v, left -= kLanes) {
      if (left == 0) {
        ++group, left = length;
        zero = hn::Set(D(), p.zeros[group]), scale = hn::Set(D(), p.scales[group]);
      }
      hn::StoreU(hn::Mul(hn::Sub(F::value(bytes + v * kLanes), zero), scale), D(), out + i + v * kLanes);
    }
  }
  one_by_one(out, dtype, g, p, i);
}

void GroupedPiece(float* out, Dtype dtype, const GroupedCodes& g, const GroupedRowPiece& p) {
  for_codes(dtype, [&](auto format) { piece<decltype(format)>(out, dtype, g, p); });
}

// Four rows at a time share what is loaded of x.
constexpr int64_t kTogether = 4;

template <class F>
HWY_INLINE void dots_in_groups(float* sums, const Tensor& w, const GroupedCodes& g, int64_t row, int64_t col, const float* x) {
  HWY_ALIGN uint8_t room[kChunk];
  const auto* codes = static_cast<const uint8_t*>(w.data);
  const int64_t K = w.cols(), stride = w.row_stride / kChunk * F::kBytes, length = g.groups == 1 ? col + K : g.group_cols;
  for (int64_t r = 0; r < w.rows(); r += kTogether) {
    const int64_t left = w.rows() - r;
    const LinesAhead<kTogether> next(codes + r * stride, stride, K / kChunk * F::kBytes);
    const uint8_t* at[kTogether];
    int64_t group[kTogether];
    V s[kTogether], scale[kTogether], zero[kTogether];
    for (int64_t i = 0; i < kTogether; ++i) {
      const int64_t mine = r + std::min(i, left - 1);  // past the end the last one again
      at[i] = codes + mine * stride;
      group[i] = (row + mine) / g.group_rows * g.groups + col / length;
      s[i] = hn::Zero(D());
    }
    int64_t in_group = 0, asked = 0;  // elements that are left of the groups at hand
    for (int64_t k = 0, offset = 0; k < K; k += kChunk, offset += F::kBytes, in_group -= kChunk) {
      if (in_group == 0) {
        for (int64_t i = 0; i < kTogether; ++i) {
          scale[i] = hn::Set(D(), g.scale(group[i]));
          zero[i] = hn::Set(D(), g.zero_of(group[i]));
          ++group[i];
        }
        in_group = k == 0 ? length - col % length : length;
      }
      for (; asked < offset + F::kBytes; asked += 64) next.ask(asked);
      V xs[kVectors];
      for (int v = 0; v < kVectors; ++v) xs[v] = hn::LoadU(D(), x + k + v * kLanes);
      for (int64_t i = 0; i < kTogether; ++i) {
        const uint8_t* bytes = F::expand(at[i] + offset, room);
        for (int v = 0; v < kVectors; ++v)
          s[i] = hn::MulAdd(hn::Mul(hn::Sub(F::value(bytes + v * kLanes), zero[i]), scale[i]), xs[v], s[i]);
      }
    }
    for (int64_t i = 0; i < kTogether && i < left; ++i) sums[r + i] = lane_sum(s[i]);
  }
}

bool GroupedDots(float* sums, const Tensor& w, const float* x) {
  const GroupedCodes& g = *w.quant->groups;
  const auto [elements, bytes] = block_of(w.dtype);
  const int64_t first = (static_cast<const uint8_t*>(w.data) - static_cast<const uint8_t*>(w.quant->codes)) / bytes * elements;
  const int64_t row = first / w.quant->cols, col = first % w.quant->cols;
  if (g.flat || g.column_group || w.cols() % kChunk != 0 || w.row_stride % kChunk != 0 || (g.groups > 1 && g.group_cols % kChunk != 0) ||
      col % kChunk != 0)
    return false;
  for_codes(w.dtype, [&](auto format) { dots_in_groups<decltype(format)>(sums, w, g, row, col, x); });
  return true;
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(GroupedPiece);
HWY_EXPORT(GroupedDots);

void grouped_row(float* out, const Tensor& in) {
  const GroupedCodes& g = *in.quant->groups;
  const auto [elements, bytes] = block_of(in.dtype);
  const auto *codes = static_cast<const uint8_t*>(in.data), *first = static_cast<const uint8_t*>(in.quant->codes);
  const int64_t start = (codes - first) / bytes * elements, cols = in.quant->cols, n = in.numel();
  thread_local Buffer memory;
  const int64_t most = g.flat ? (g.period ? cols : cols / g.group_cols + 2) : g.groups;
  const size_t room = static_cast<size_t>(2 * most) * sizeof(float);
  if (memory.bytes() < room) memory = Buffer(room);
  auto *scales = static_cast<float*>(memory.data()), *zeros = scales + most;
  for (int64_t done = 0; done < n;) {  // a view may cross rows
    const int64_t row = (start + done) / cols, c = (start + done) % cols, count = std::min(n - done, cols - c);
    const int64_t place = g.flat ? start + done : c;  // that groups are counted by
    const int64_t group = g.column_group ? 0 : place / g.group_cols;
    const int64_t groups = g.column_group ? g.groups : (place + count - 1) / g.group_cols - group + 1;
    const int64_t before = g.flat ? group : row / g.group_rows * g.groups + group;
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t at = g.period ? (before + i) % g.period : before + i;
      scales[i] = g.scale(at);
      zeros[i] = g.zero_of(at);
    }
    const GroupedRowPiece piece{codes + done / elements * bytes, place, count, scales, zeros};
    HWY_DYNAMIC_DISPATCH(GroupedPiece)(out + done, in.dtype, g, piece);
    done += count;
  }
}

bool grouped_dots(float* sums, const Tensor& w, const float* x) { return HWY_DYNAMIC_DISPATCH(GroupedDots)(sums, w, x); }

}  // namespace loraine
#endif
