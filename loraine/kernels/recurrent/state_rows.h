// The inner loops of recurrences that are no products of tiles: sums of weighted rows, a step of a state, running decays. Vectorised with
// Highway for the instruction set found at run time. The order of sums depends on the sizes alone.
#pragma once
#include <cstdint>

namespace loraine {

// y [cols] += Σ_j weights[j · weight_stride] · x[j], for `rows` rows of x.
void add_weighted_rows(float* y, const float* weights, int64_t weight_stride, const float* x, int64_t x_stride, int64_t rows, int64_t cols);

// One step of a state [rows, cols], contiguous: row c becomes decay[c] · row c + key[c] · value; then out [cols] = Σ_c query[c] · row c.
// decay_stride 0: one decay for all rows. out and query may be nullptr, both.
void step_state(float* state, int64_t rows, int64_t cols, const float* decay, int64_t decay_stride, const float* key, const float* value,
                float* out, const float* query);

// Running decays of keys, one row of queries at a time: each of `rows` rows of w [rows, n] is multiplied by decay [n]; then
// of_first[j] = first · w[j], and the same for `second`.
void decay_and_dot(float* w, int64_t rows, int64_t n, const float* decay, const float* first, const float* second, float* of_first,
                   float* of_second);
// The same decays; then first [n] += Σ_j for_first[j] · w[j], and the same for `second`.
void decay_and_add(float* w, int64_t rows, int64_t n, const float* decay, const float* for_first, const float* for_second, float* first,
                   float* second);
// Their mirror image: row j becomes decay · (row j + for_first[j] · first + for_second[j] · second).
void add_and_decay(float* w, int64_t rows, int64_t n, const float* decay, const float* for_first, const float* for_second,
                   const float* first, const float* second);

}  // namespace loraine
