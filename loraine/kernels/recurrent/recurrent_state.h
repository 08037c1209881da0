// What recurrent mixers keep of the tokens that are gone: a state of fixed size per sequence, in a place (slot) that the caller gives.
#pragma once
#include <algorithm>
#include <span>

#include "loraine/core/batch.h"
#include "loraine/core/tensor.h"

namespace loraine {

inline constexpr int64_t kRecurrentChunk = 64;  // rows that are worked on together

struct RecurrentState {
  Tensor states;                   // [slots, columns of the op] F32, rows may be strided; data == nullptr: no state is kept
  std::span<const int64_t> slots;  // which row each sequence has
};
// With a state kept, a sequence whose length is less than its kv_length goes on from its state, every other begins at zero, and each leaves
// its state behind. Without, all must be whole.

// Rows of the tensor of borders for a batch of T rows, whatever its sequences are: the state is kept where one chunk of a sequence meets
// the next.
inline int64_t recurrent_border_rows(int64_t T) { return std::max<int64_t>(1, T / kRecurrentChunk); }
inline int64_t borders_of(const Sequence& s) { return s.length > 0 ? (s.length - 1) / kRecurrentChunk : 0; }

}  // namespace loraine
