// What to compute: tokens of several sequences laid end to end, without padding. Sequences that begin alike may share those rows: they are
// a tree then. Plain data; `data` and `generate` fill it, `model` reads it.
#pragma once
#include <cstdint>
#include <vector>

namespace loraine {

inline constexpr int32_t kIgnoreLabel = -100;
inline constexpr int64_t kKvPage = 64;  // rows of a page of keys and values

struct Sequence {
  int64_t start = 0;      // first row in the batch
  int64_t length = 0;     // rows of this sequence in the batch
  int64_t kv_start = 0;   // first row of its keys and values (in the batch itself when training, in the KV cache when generating)
  int64_t kv_length = 0;  // keys and values visible, these rows included; causal, aligned at the end
  int64_t slot = 0;       // of its state, where a mixer carries one from batch to batch
  // When its keys and values lie in pages of the cache: row r is row r % kKvPage of page pages[r / kKvPage], and kv_start is 0.
  const int32_t* pages = nullptr;
  // Training: the sequence before it in the batch whose first kv_length − length keys come before its own rows; -1: none. That one may
  // have a parent itself. Its positions and labels are those of the whole sequence.
  int64_t parent = -1;
  int64_t shared() const { return parent < 0 ? 0 : kv_length - length; }  // keys of its parent that it sees
  int64_t kv_row(int64_t r) const { return pages ? pages[r / kKvPage] * kKvPage + r % kKvPage : kv_start + r; }
  // Rows from r on that lie one after the other there, at most `most`.
  int64_t kv_run(int64_t r, int64_t most) const { return pages && kKvPage - r % kKvPage < most ? kKvPage - r % kKvPage : most; }
};

struct AdapterRows {  // rows [start, start + length) run with adapter set `set` of the Pass; rows in no range run the base alone
  int64_t start = 0, length = 0;
  int set = 0;
};

struct Batch {
  std::vector<int32_t> tokens;     // [T]
  std::vector<int32_t> positions;  // [T]
  std::vector<int32_t> labels;     // [T] or empty; labels[t] is the token that row t must predict (already shifted), or kIgnoreLabel
  std::vector<Sequence> sequences;
  std::vector<AdapterRows> adapter_rows;
  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

}  // namespace loraine
