// Recurrences whose state is a matrix, by chunks of rows: S ← decay · S + k ⊗ u, o = Sᵀ q, where u is the row's value v or, by the delta
// rule, β (v − (decay · S)ᵀ k). Within a chunk all is products of tiles (the chunked forms of gated linear attention, Yang et al. 2024, of
// Mamba-2, Dao and Gu 2024, and of the gated delta rule, Yang et al. 2025); only the state passes from chunk to chunk. The u of the delta
// rule solve (I + A) u = b, A strictly lower triangular: row by row, nothing is inverted.
// The tiles belong to one sequence and the heads that share queries and keys, whose values lie side by side; one thread works on them.
#pragma once
#include <cstdint>

#include "loraine/kernels/recurrent/recurrent_state.h"

namespace loraine {

struct ChunkShape {
  int64_t heads = 1, key_dim = 0, value_dim = 0;  // heads that share queries and keys
  bool delta = false;                             // u by the delta rule
  bool channel_decay = false;                     // decays belong to the channels of the keys, not to the heads (delta rule only)
  int64_t width() const { return heads * value_dim; }
  int64_t decays() const { return channel_decay ? key_dim : heads; }
  int64_t stacked() const { return delta ? 2 : 1; }  // q alone asks the state, or q and k do
  int64_t state_size() const { return key_dim * width(); }
};

// Tiles of n ≤ kRecurrentChunk rows: F32, contiguous.
struct ChunkTiles {
  int64_t n = 0;
  // The caller fills q, k [n, key_dim] (k behind q), v [n, width], g [n, decays] (logarithms of decays, at most 0), beta [n, heads] (delta
  // rule) and state [key_dim, width]; v becomes u.
  float *q, *k, *v, *g, *beta, *state;
  float* o;                              // [n, width]
  float* answers;                        // [2n, width] what the state before the chunk answers to q and to k
  float* products;                       // [2n, n] q kᵀ and k kᵀ; decayed already where decays belong to channels
  float *asking, *k_end;                 // q and k decayed from the beginning [2n, key_dim], k to the end [n, key_dim]; q and k themselves
                                         // where decays belong to heads
  float *decay, *total;                  // decays of channels [n, key_dim]; of all rows together, [key_dim] or [heads]
  float *from_start, *to_end, *between;  // decays of a head: [n], [n], [n, n] from column to row, lower triangle
  float *p, *a;                          // weights of u in o, and −A: [n, n] of a head
  // The backward alone. The caller fills d_o and d_state, the gradient of the state after the chunk, which becomes that of the state
  // before.
  float *d_o, *d_u;                       // [n, width], d_u behind d_o; both are used up
  float* d_state;                         // [key_dim, width]
  float *d_q, *d_k, *d_v, *d_g, *d_beta;  // as q, k, v, g, beta
  float *residual, *of_end;               // (b / β) of a head [n, value_dim]; k_end · d_state [n, width]
  float *d_products, *sums;               // of a head, and summed over heads: [2n, n] in q kᵀ and in k kᵀ
  float *d_asking, *d_k_end;              // [2n, key_dim], [n, key_dim]
  float* d_total;                         // of channels [key_dim]
};

int64_t chunk_floats(const ChunkShape& shape, bool backward);
// Where the tiles of n rows lie in `memory`, of chunk_floats floats; the state's place does not depend on n.
ChunkTiles chunk_tiles(const ChunkShape& shape, bool backward, int64_t n, float* memory);

// o, and the state after. fresh: the state before is zero, and was not filled in. last: the state after is not wanted.
void chunk_forward(const ChunkShape& shape, const ChunkTiles& t, bool fresh, bool last);
// All gradients; `state` is that before the chunk. fresh: it is zero, and its gradient is not wanted. last: d_state is zero, and was not
// filled in.
void chunk_backward(const ChunkShape& shape, const ChunkTiles& t, bool fresh, bool last);
// The same o and state row by row, which is faster for few rows; shape.heads must be 1.
void chunk_steps(const ChunkShape& shape, const ChunkTiles& t);

// The parts that forward and backward share: products, asking, k_end, decay and total;
void chunk_products(const ChunkShape& shape, const ChunkTiles& t);
// answers;
void chunk_answers(const ChunkShape& shape, const ChunkTiles& t);
// from_start, to_end, between, p and a of one head: returns the decay of all rows together (1 where decays belong to channels);
float chunk_head(const ChunkShape& shape, const ChunkTiles& t, int64_t head);
// u of one head by the delta rule, in the place of v; b / β to `residual` where there is one.
void chunk_values(const ChunkShape& shape, const ChunkTiles& t, int64_t head, bool fresh, float* residual);

// y [n] = x · factor, y += x · factor, and Σ a·b
void scaled_row(float* y, const float* x, float factor, int64_t n);
void add_scaled_row(float* y, const float* x, float factor, int64_t n);
float dot_row(const float* a, const float* b, int64_t n);

}  // namespace loraine
